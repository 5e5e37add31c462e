"""Tests that the page computes the same labels as the loader."""

from dataclasses import asdict

import numpy as np
import pytest

from mlimagenet_data import LabelPolicy, MultiLabelImageNet
from mlimagenet_data.annotations.masks import encode_mask, parse_counts
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.labelling.policy import MAIN_SHARE, ROUNDING
from mlimagenet_data.labelling.targets import regions_of
from mlimagenet_data.views.view import view_of_box
from tests.support.reference import region_shares

POLICIES = (
    LabelPolicy(),
    LabelPolicy(
        visibility=1.0, coverage=1.0, absent_visibility=0.5, min_score=0.6, unlocated="keep", original="if_located"
    ),
    LabelPolicy(visibility=0.3, absent_coverage=0.2, unlocated="drop", original="always"),
    LabelPolicy(visibility=0.9, coverage=0.6, original="if_located", empty="original"),
    LabelPolicy(min_score=0.4, absent_visibility=0.3, absent_coverage=0.2),
    LabelPolicy(original="as_others"),
)
LABEL = """([policy, crops]) => crops.map(([position, [top, left, height, width]]) => {
    const found = labelCrop(data.images[position], data.regions[position].map(decodeRegion), policy, {top, left, height, width});
    return {states: [...found.states], shares: found.shares.map((share) => [share.visibility, share.coverage])};
})"""


def random_crops(sizes, count, seed=0):
    """Return (position, (top, left, height, width)): integer, fractional, partly outside, tiny and whole-image crops."""
    generator, crops = np.random.default_rng(seed), []
    for k in range(count):
        position = int(generator.integers(len(sizes)))
        size = np.array(sizes[position])
        corner, extent = generator.uniform(-0.2, 0.9, 2) * size, generator.uniform(0.05, 1.1, 2) * size
        if k % 2:
            corner, extent = np.floor(corner), np.ceil(extent)
        if k % 20 == 0:
            corner, extent = np.zeros(2), size
        crops.append((position, (*map(float, corner), *map(float, extent))))
    return crops


def of_page(policy):
    """A policy as the page has it."""
    return {**asdict(policy), "rounding": ROUNDING, "main_share": MAIN_SHARE}


@pytest.fixture
def page(dataset, open_page):
    return open_page(dataset[2])


@pytest.mark.parametrize("policy", POLICIES)
def test_labels_of_crops_equal_the_loaders(dataset, page, policy):
    loader = MultiLabelImageNet(dataset[1], annotations=dataset[0], policy=policy, target="ignore")
    crops = random_crops([loader.record(k).size for k in range(len(loader))], 200)
    found = page.evaluate(LABEL, [of_page(policy), crops])
    seen = set()
    for (position, box), answer in zip(crops, found, strict=True):
        target = np.zeros(1000, np.float32)
        for index, state in answer["states"]:
            target[index] = state
        np.testing.assert_array_equal(target, loader.labels_for(position, box).numpy(), f"image {position}, crop {box}")
        seen |= set(target.tolist())
        record = loader.record(position)
        view = view_of_box(record.size, *box)
        shares = [region_shares(region.mask, view.box, view.area) for region in record.regions]
        assert all(share >= 0 for pair in answer["shares"] for share in pair)
        np.testing.assert_allclose(answer["shares"], np.reshape(shares, (-1, 2)).tolist() or [], rtol=0, atol=1e-12)
    assert seen == {-1.0, 0.0, 1.0}


def test_the_page_has_the_default_policy(page):
    assert page.evaluate("data.policy") == of_page(LabelPolicy())


REGIONS_FOR = """(cases) => cases.map(([topk, index, original, policy]) =>
    regionsFor(topk.map((one) => ({topk: one})), index, original, policy))"""


def test_a_classes_regions_are_those_of_python(page):
    """Few scores, so that a region often has exactly half the best score, or exactly the least one."""
    generator = np.random.default_rng(0)
    cases, expected, main = [], [], 0
    for _ in range(600):
        index, original = generator.integers(0, 2, 2).tolist()
        policy = LabelPolicy(
            min_score=generator.choice([0.0, 0.25, 0.5]).item(),
            original=str(generator.choice(["unless_gone", "as_others"])),
        )
        scores = {k: generator.choice([0.125, 0.25, 0.5, 1.0]).item() for k in range(4) if generator.random() < 0.8}
        topk = [[[5, 0.5], *([[index, scores[k]]] if k in scores else [])] for k in range(4)]
        cases.append([topk, index, None if generator.random() < 0.2 else original, of_page(policy)])
        where = regions_of(scores, index, cases[-1][2], policy) if scores else {}
        expected.append(list(where))
        main += len(where) < sum(score >= policy.min_score for score in scores.values())
    assert page.evaluate(REGIONS_FOR, cases) == expected
    assert main > 20  # the original label's rule decided


def test_masks_are_decoded_as_in_python(dataset, page):
    loader = MultiLabelImageNet(dataset[1], annotations=dataset[0])
    masks = page.evaluate("data.regions.map((regions) => regions.map((r) => [...decodeMask(decodeRegion(r))]))")
    for position, decoded in enumerate(masks):
        for region, mask in zip(loader.record(position).regions, decoded, strict=True):
            np.testing.assert_array_equal(np.reshape(mask, region.mask.shape[::-1]).T, region.mask)


def test_damaged_masks_are_rejected_as_in_python(page):
    generator = np.random.default_rng(0)
    cases = [["PPPPP01", 1], ["PPPPPP01", 1]]  # a zero in six characters, and one in seven
    for _ in range(400):
        shape = tuple(generator.integers(1, 30, 2))
        raw = list(encode_mask(generator.random(shape) < 0.5))
        for _ in range(generator.integers(0, 3)):
            raw[generator.integers(len(raw))] = chr(generator.integers(44, 116))
        cases.append(["".join(raw[: max(1, len(raw) - int(generator.integers(0, 2)))]), int(shape[0] * shape[1])])
    answers = page.evaluate(
        "(cases) => cases.map(([c, n]) => { try { return decodeCounts(c, n) } catch (error) { return null } })", cases
    )
    for (counts, cells), answer in zip(cases, answers, strict=True):
        try:
            expected = parse_counts(counts, cells).tolist()
        except AnnotationError:
            expected = None
        assert answer == expected, (counts, cells)
    assert 50 < sum(answer is None for answer in answers) < 350
