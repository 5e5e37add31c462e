"""The loader's shares and targets against slow references that share no code with its fast paths."""

import numpy as np
import pytest
import torch

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.labelling.policy import PRESENT, LabelPolicy
from mlimagenet_data.labelling.shares import view_shares
from mlimagenet_data.labelling.targets import label_view
from mlimagenet_data.views.view import View, view_of_box
from tests.support.annotated import random_rows, region, row, write_images, write_rows
from tests.support.reference import slow_box_shares, slow_target, slow_visible_area


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return AnnotationStore(write_rows(tmp_path_factory.mktemp("random"), random_rows(400), shards=3), "train")


def random_box(generator, size):
    kind = generator.integers(0, 4)
    if kind == 0:  # extends outside
        return (
            generator.uniform(-1, 1) * size[0],
            generator.uniform(-1, 1) * size[1],
            *generator.uniform(0.01, 2, 2) * size,
        )
    if kind == 1:  # whole pixels
        top, left = generator.integers(0, size[0]), generator.integers(0, size[1])
        return top, left, generator.integers(1, size[0] - top + 1), generator.integers(1, size[1] - left + 1)
    if kind == 2:  # sliver
        return generator.uniform(0, size[0]), generator.uniform(0, size[1]), 1e-7, generator.uniform(0.1, size[1])
    return generator.uniform(0, size[0] / 2), generator.uniform(0, size[1] / 2), *generator.uniform(1, 30, 2)


def test_shares_agree_with_the_reference_on_10000_masks_and_boxes(store):
    generator = np.random.default_rng(1)
    compared = 0
    worst = 0.0
    while compared < 10_000:
        record = store.record(int(generator.integers(0, len(store))))
        box = random_box(generator, np.array(record.size))
        shares = view_shares(record.stacks, view_of_box(record.size, *box))
        for k, expected in enumerate(slow_box_shares(record, box)):
            worst = max(worst, *np.abs(np.subtract(shares[k], expected)))
            compared += 1
    assert worst < 1e-6


POLICIES = (
    LabelPolicy(unlocated="drop", original="as_others"),
    LabelPolicy(),
    LabelPolicy(min_score=0.4, absent_visibility=0.2, absent_coverage=0.1, unlocated="keep"),
)


def is_close(policy, shares, area):
    """Whether rounding may decide on which side of a threshold a share is."""
    visible, covered = np.array([*shares, (area, 1.0)]).T
    pairs = (
        (visible, policy.visibility), (visible, policy.absent_visibility), (covered, policy.coverage),
        (covered, policy.absent_coverage),
    )  # fmt: skip
    return any((np.abs(values - limit) < 1e-6).any() for values, limit in pairs)


def test_hard_targets_equal_the_reference_on_10000_random_crops(store):
    generator = np.random.default_rng(2)
    close = differ = 0
    for draw in range(10_000):
        policy = POLICIES[draw % len(POLICIES)]
        record = store.record(int(generator.integers(0, len(store))))
        box = random_box(generator, np.array(record.size))
        shares, area = slow_box_shares(record, box), slow_visible_area(record, box)
        labels = label_view(record, policy, view_of_box(record.size, *box))
        found = {index for index, state in labels.states.items() if state == PRESENT}
        if is_close(policy, shares, area):
            close += 1
            continue
        assert found == slow_target(record, policy, shares, area)
        differ += found != slow_target(record, POLICIES[0], shares, area)
    assert close < 500
    assert differ > 1000  # the policies do not say the same


def test_shares_agree_with_full_size_masks(store):
    """Upscale to many pixels per cell by nearest neighbour, then count pixels, as the dataset defines shares."""
    generator = np.random.default_rng(3)
    for _ in range(200):
        record = store.record(int(generator.integers(0, len(store))))
        height, width = record.size
        steps = 12
        ys = (np.arange(height * steps) + 0.5) / steps
        xs = (np.arange(width * steps) + 0.5) / steps
        top, left, high, wide = random_box(generator, np.array(record.size))
        shares = view_shares(record.stacks, view_of_box(record.size, top, left, high, wide))
        inside = ((ys >= top) & (ys < top + high))[:, None] & ((xs >= left) & (xs < left + wide))[None]
        for k, item in enumerate(record.regions):
            rows = (ys * item.mask.shape[0] / height).astype(int)
            columns = (xs * item.mask.shape[1] / width).astype(int)
            full = item.mask[rows][:, columns]
            if full.any():
                resolution = 4 * (high + wide + height + width) / steps / (full.sum() / steps**2)
                assert shares[k][0] == pytest.approx((full & inside).sum() / full.sum(), abs=min(resolution, 0.5))


def test_rotated_shares_agree_with_supersampled_masks(store):
    generator = np.random.default_rng(4)
    for _ in range(60):
        record = store.record(int(generator.integers(0, len(store))))
        height, width = record.size
        turn = generator.uniform(-3, 3)
        matrix = (np.cos(turn), -np.sin(turn), width / 2, np.sin(turn), np.cos(turn), height / 2, 0.0, 0.0, 1.0)
        view = View.of(height, width).warp(matrix, (height // 2 + 1, width // 2 + 1)).erase(3, 4, 5, 6)
        shares = view_shares(record.stacks, view)
        fine = 8
        big = View((height, width), tuple(fine * s for s in view.canvas_size), view.to_image, view.pieces)
        scaled = tuple(
            value / (fine if position in (0, 1, 3, 4) else 1) for position, value in enumerate(view.to_image)
        )
        big = View((height, width), big.canvas_size, scaled, view.pieces)
        for k, item in enumerate(record.regions):
            pixels = big.sample(item.mask[None])[0].mean() * view.area  # share of the image
            if item.mask.any():
                assert shares[k][0] == pytest.approx(pixels / item.mask.mean(), abs=0.02 / item.mask.mean() + 0.01)


@pytest.mark.parametrize("target", ["multi_hot", "soft", "ignore", "pooled"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unlocated": "keep", "original": "always"},
        {"unlocated": "drop", "empty": "original"},
        {"original": "if_located", "visibility": 0.9, "coverage": 0.9, "min_score": 0.6},
        {"original": "as_others"},
        {"min_score": 0.4, "absent_visibility": 0.3, "absent_coverage": 0.2},
    ],
    ids=str,
)
def test_batches_equal_single_targets(tmp_path, target, options):
    rows = random_rows(60, seed=5)
    folder = write_rows(tmp_path / "mlimagenet", rows)
    dataset = MultiLabelImageNet(tmp_path, loader=str, annotations=folder, target=target, policy=LabelPolicy(**options))
    generator = np.random.default_rng(6)
    indices = generator.integers(0, 60, 200).tolist()
    boxes = [tuple(map(float, random_box(generator, np.array(dataset.record(i).size)))) for i in indices]
    single = torch.stack([dataset.labels_for(i, box) for i, box in zip(indices, boxes, strict=True)])
    batch = dataset.batch_labels_for(indices, torch.tensor(boxes, dtype=torch.float64))
    torch.testing.assert_close(batch, single, atol=1e-5, rtol=0)
    assert (single != 0).any()


def test_a_batch_takes_the_original_labels_main_regions_only(tmp_path):
    left = np.zeros((4, 8), bool)
    left[:, :4] = True
    rows = [row("two", (40, 80), [region(left, 3, 1.0), region(~left, 7, 0.9, [(3, 0.4)])], label=3)]
    folder, right_half = write_rows(tmp_path / "mlimagenet", rows), (0.0, 40.0, 40.0, 40.0)
    for rule, expected in (("unless_gone", [7]), ("as_others", [3, 7])):
        dataset = MultiLabelImageNet(tmp_path, loader=str, annotations=folder, policy=LabelPolicy(original=rule))
        batch = dataset.batch_labels_for([0], torch.tensor([right_half], dtype=torch.float64))
        assert batch[0].nonzero().ravel().tolist() == expected
        assert torch.equal(batch[0], dataset.labels_for(0, right_half))


def test_batches_refuse_non_vector_targets_and_invalid_boxes(tmp_path):
    folder = write_rows(tmp_path / "mlimagenet", random_rows(3))
    dataset = MultiLabelImageNet(tmp_path, loader=str, annotations=folder, target="single")
    with pytest.raises(ValueError, match="single"):
        dataset.batch_labels_for([0], torch.ones(1, 4))
    dataset = MultiLabelImageNet(tmp_path, loader=str, annotations=folder)
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        dataset.batch_labels_for([0], torch.ones(2, 4))
    with pytest.raises(ValueError, match="positive"):
        dataset.batch_labels_for([0], torch.tensor([[0.0, 0.0, 0.0, 5.0]]))
    with pytest.raises(ValueError, match="positive"):
        dataset.labels_for(0, (0, 0, 5, 0))


def two_objects(tmp_path):
    left, right = np.zeros((4, 8), bool), np.zeros((4, 8), bool)
    left[1:3, 1:3], right[1:3, 5:7] = True, True
    rows = [row("two", (40, 80), [region(left, 3), region(right, 7)], label=3)]
    write_rows(tmp_path / "mlimagenet", rows)
    return MultiLabelImageNet(write_images(tmp_path, rows), annotations=tmp_path / "mlimagenet", target="regions")


def test_region_targets_hold_masks_and_boxes_of_the_output(tmp_path):
    dataset = two_objects(tmp_path)
    _, target = dataset[0]
    assert target["masks"].shape == (2, 40, 80)
    assert target["boxes"].tolist() == [[10, 10, 30, 30], [50, 10, 70, 30]]
    assert target["labels"].tolist() == [3, 7]
    assert target["visibility"].tolist() == [1, 1]
    assert target["boxes"].canvas_size == (40, 80)
    seen = dataset.labels_for(0, (0, 0, 40, 40))
    assert seen["boxes"].tolist() == [[10, 10, 30, 30], [0, 0, 0, 0]]
    assert seen["visibility"].tolist() == [1, 0]
    assert seen["multi_hot"].nonzero().ravel().tolist() == [3]
