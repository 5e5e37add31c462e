"""Names of an image's regions, and its labels: with and without an original label."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.config.options import BuildConfig
from build.images.listing import ImageInput, Images, Listing
from build.labeler.head import Labeler
from build.labeler.originals import OriginalTrust
from build.ops.naming import best_classes
from build.records import LabelsRow, RegionsRow, read_rows, table_of
from build.stages.labels import LabelsStage, name_beside_original, name_by_regions, name_unlabelled
from build.state.ledger import UnitOutput
from build.state.plan import LABELER_FILE, Plan
from mlimagenet_data.annotations.masks import encode_mask
from tests.support.leases import lease_for

LEFT, MOST, RIGHT = [[1, 1, 0, 0]] * 2, [[1, 1, 1, 0]] * 2, [[0, 0, 1, 1]] * 2  # IoU: 2/3, 0, and 1/4 of the last two
EVEN = OriginalTrust(error=0.5, weight=1.0)  # odds of 1: a score is own / (own + rival)
SURE = OriginalTrust(error=0.1, weight=1.0)  # odds of 9


def image_of(*masks, label=None, objects=0, elsewhere=None, **columns):
    return RegionsRow(
        image_id="a",
        label=label,
        grid=[2, 4],
        counts=[encode_mask(np.array(mask, bool)) for mask in masks],
        of_original=[k < objects for k in range(len(masks))],
        elsewhere=elsewhere or [[]] * len(masks),
        **columns,
    )


def beside(row, p, trust=EVEN, **options):
    p = np.array(p, np.float32)
    return name_beside_original(row, p, best_classes(p, 20), trust, BuildConfig(**options))


def unlabelled(row, p, confusable=None, **options):
    p = np.array(p, np.float32)
    alone = np.eye(p.shape[1], dtype=bool)
    return name_unlabelled(
        row, p, best_classes(p, 20), alone if confusable is None else confusable, BuildConfig(**options)
    )


def by_regions(row, p, **options):
    p = np.array(p, np.float32)
    config = BuildConfig(label_threshold=0.5, reject=0.0, merge_iou=2.0, **options)
    return name_by_regions(row, p, best_classes(p, 20), None, config)


def close(ranking):
    return [(index, pytest.approx(score, abs=1e-6)) for index, score in ranking]


WHOLE = {"whole_classes": [1, 3], "whole_scores": [0.5, 0.25]}
SEEN = [
    [0.1, 0.2, 0.1, 0.6],  # the original's object, class 1
    [0.1, 0.5, 0.2, 0.2],  # another guess at its extent
    [0.05, 0.1, 0.05, 0.8],  # something else
    [0.0, 0.0, 0.0, 1.0],  # the labeler's whole image, which an ensemble overrules
]


def test_the_originals_object_has_the_best_score_of_the_guesses_at_it():
    found = beside(image_of(LEFT, MOST, RIGHT, label=1, objects=2, **WHOLE), SEEN, top_k=2)
    assert found.labels == close([(1, 2 / 3)])  # 0.5 against 0.25
    assert found.found
    assert found.rankings == [
        close([(1, 0.5), (3, 0.25)]),  # the other guess's score; class 3 is no likelier than in the whole image
        close([(1, 0.5 * 2 / 3), (2, 0.2 * 2 / 3)]),  # weighted by the overlap with the object
        close([(3, 0.25), (1, 0.1)]),
    ]
    assert found.named == [0, 1, 2]
    assert found.kept == [0, 2]  # the guesses overlap by 2/3
    assert beside(image_of(LEFT, MOST, RIGHT, label=1, objects=2, **WHOLE), SEEN, labelled_merge_iou=0.7).kept == [
        0,
        1,
        2,
    ]


def test_the_object_is_published_rather_than_a_better_region_that_overlaps_it():
    p = [[0, 0.3, 0.7, 0], [0, 0, 1, 0], [0, 0.5, 0.5, 0]]
    row = image_of(LEFT, MOST, label=1, objects=1, whole_classes=[2, 1], whole_scores=[0.9, 0.1])
    found = beside(row, p)
    assert found.rankings[1][0] == (2, pytest.approx(0.9))
    assert found.kept == [0]
    row.of_original = [False, False]
    assert beside(row, p).kept == [1]


def test_overlapping_regions_are_merged_whatever_their_classes():
    p = [[0, 0, 0.6, 0.4], [0, 0, 0.3, 0.7], [0, 0, 0.5, 0.5], [0, 0.2, 0.4, 0.4]]
    row = image_of(LEFT, MOST, RIGHT, label=1)
    assert [ranking[0][0] for ranking in beside(row, p, labelled_reject=0).rankings] == [2, 3, 2]
    assert beside(row, p).kept == [0, 2]  # all are as likely as in the image; the first of equals is kept
    assert beside(row, p, labelled_merge_iou=0.2).kept == [0, 2]
    assert beside(row, p, labelled_merge_iou=1.1).kept == [0, 1, 2]


def test_a_region_without_a_likely_class_is_not_published():
    p = [[0.09, 0.09, 0.82, 0], [0, 0.11, 0.89, 0], [0, 0.5, 0.5, 0]]
    row = image_of(LEFT, RIGHT, label=1, whole_classes=[1, 2], whole_scores=[0.5, 0.05])
    found = beside(row, p, labelled_reject=0.1)
    assert found.rankings[0] == close([(1, 0.09), (0, 0.05), (2, 0.05)])  # what is not in the image is not in a region
    assert (found.named, found.kept) == ([1], [1])
    assert beside(row, p, labelled_reject=0.09).kept == [0, 1]
    assert beside(row, p, labelled_reject=0.12).kept == []


def test_the_original_labels_odds_rise_in_each_region():
    row = image_of(LEFT, label=1, whole_classes=[1, 2], whole_scores=[0.8, 0.8])
    found = beside(row, [[0, 0.2, 0.8], [0, 0, 0]], trust=SURE)
    assert found.labels == close([(1, 0.9), (2, 0.8)])
    assert found.rankings == [close([(1, 9 / 13), (2, 4 / 13)])]  # odds of 9 times a quarter


def test_without_an_ensemble_the_labeler_sees_the_whole_image():
    p = [[0.5, 0.4, 0.1], [0.6, 0.3, 0.1]]
    found = beside(image_of(LEFT, label=1), p, added_threshold=0.2)
    assert found.labels == close([(0, 0.6), (1, 1 / 3)])
    assert found.found is False
    assert found.rankings == [close([(0, 0.5), (1, 1 / 3), (2, 0.1)])]
    assert beside(image_of(LEFT, label=1), p, unconfirmed="drop").labels == close([(0, 0.6)])


def test_a_class_whose_evidence_is_elsewhere_counts_a_tenth():
    p = [[0.1, 0.4, 0.5], [0, 0.5, 0.5]]
    row = image_of(LEFT, label=1, elsewhere=[[2]])
    assert beside(row, p).rankings == [close([(1, 0.4), (2, 0.05)])]  # class 0 is not in the whole image
    assert beside(image_of(LEFT, label=1), p).rankings == [close([(1, 0.4), (2, 0.5)][::-1])]


def test_an_image_without_regions_has_the_whole_images_labels():
    row = image_of(label=1, **WHOLE)
    found = beside(row, [[0, 0, 0, 1]], added_threshold=0.25)
    assert (found.rankings, found.named, found.kept) == ([], [], [])
    assert found.labels == close([(1, 2 / 3), (3, 0.25)])
    assert unlabelled(image_of(), [[0.05, 0.7, 0.25]]).labels == close([(1, 0.7), (2, 0.25)])


@st.composite
def images(draw):
    """An image with an original label, its (R + 1, K) probabilities, and trust; the first few regions are its object."""
    generator = np.random.default_rng(draw(st.integers(0, 100_000)))
    count, classes = draw(st.integers(0, 6)), 8
    masks = generator.random((count, 2, 4)) < 0.6
    masks[:, 0, 0] = True
    p = generator.dirichlet(np.full(classes, 0.3), size=count + 1).astype(np.float32)
    whole = {}
    if draw(st.booleans()):
        order = np.argsort(-p[-1], kind="stable").tolist()
        whole = {"whole_classes": order, "whole_scores": p[-1][order].tolist()}
    elsewhere = [np.flatnonzero(generator.random(classes) < 0.2).tolist() for _ in range(count)]
    label = int(generator.integers(classes))
    row = image_of(*masks, label=label, objects=draw(st.integers(0, 4)), elsewhere=elsewhere, **whole)
    return row, p, OriginalTrust(draw(st.floats(0.01, 0.5)), draw(st.floats(0.1, 2))), masks


@settings(deadline=None, max_examples=100)
@given(images())
def test_regions_beside_an_original_label_keep_the_rules(drawn):
    row, p, trust, masks = drawn
    found = beside(row, p, trust, top_k=8)
    present = dict(enumerate(p[-1].tolist()))
    present[row.label] = trust.score(present[row.label], max(v for k, v in present.items() if k != row.label))
    for ranking in found.rankings:
        assert all(0 < score <= present[index] + 1e-6 for index, score in ranking)
        assert [score for _, score in ranking] == sorted((score for _, score in ranking), reverse=True)
    objects = [k for k, is_object in enumerate(row.of_original) if is_object]
    own = [dict(found.rankings[k]).get(row.label, 0.0) for k in objects]
    assert not objects or own[0] == max(own)
    assert found.named == [k for k, ranking in enumerate(found.rankings) if ranking and ranking[0][1] >= 0.1]
    assert set(found.kept) <= set(found.named)
    assert 0 not in objects or 0 not in found.named or found.kept[0] == 0
    overlaps = {
        (a, b): (masks[a] & masks[b]).sum() / (masks[a] | masks[b]).sum() for a in found.named for b in found.named
    }
    least = BuildConfig().labelled_merge_iou
    assert all(overlaps[a, b] < least for a in found.kept for b in found.kept if a != b)
    assert all(max(overlaps[a, b] for b in found.kept) >= least for a in set(found.named) - set(found.kept))


def test_an_unlabelled_images_labels_are_its_regions_and_its_own():
    p = [[0.9, 0.05, 0.05, 0], [0.01, 0.19, 0.3, 0.5], [0.4, 0.3, 0.2, 0.1]]
    found = unlabelled(image_of(LEFT, RIGHT), p, label_threshold=0.25)
    assert found.labels == close([(0, 0.9), (3, 0.5), (1, 0.3), (2, 0.3)])
    assert found.found is None
    assert (found.named, found.kept) == ([0, 1], [0, 1])
    assert [ranking[0] for ranking in found.rankings] == close([(0, 0.9), (3, 0.5)])


def test_regions_of_unlabelled_images_that_show_nothing_count_for_nothing():
    p = [[0.25, 0.25, 0.25, 0.25], [0.1, 0.1, 0.7, 0.1], [0.0, 0.6, 0.4, 0.0]]
    found = unlabelled(image_of(LEFT, RIGHT), p, reject=0.3, label_threshold=0.2)
    assert (found.named, found.kept) == ([1], [1])
    assert found.labels == close([(2, 0.7), (1, 0.6)])  # not the first region's 0.25 for 0


def test_only_regions_of_one_class_are_duplicates_in_an_unlabelled_image():
    p = [[0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.5, 0.5]]
    assert unlabelled(image_of(LEFT, MOST, MOST), p, merge_iou=0.6).kept == [1, 2]
    assert unlabelled(image_of(LEFT, MOST, MOST), p, merge_iou=0.7).kept == [0, 1, 2]


def test_evidence_elsewhere_renames_a_region_but_not_an_unlabelled_image():
    p = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    found = unlabelled(image_of(LEFT, elsewhere=[[0]]), p)
    assert found.rankings == [close([(1, 0.3), (2, 0.2), (0, 0.05)])]
    assert found.labels == close([(2, 0.8), (0, 0.5), (1, 0.3)])


def test_other_networks_opinion_counts_for_an_unlabelled_images_labels_only():
    places = np.array([1.0, 0.0, 0.5], "<f2").tobytes()
    p = [[0.2, 0.6, 0.2], [0.4, 0.2, 0.4]]
    found = unlabelled(image_of(LEFT, places=places), p, label_threshold=0.43)
    assert found.labels == close([(0, 0.75 * 0.4 + 0.25), (1, 0.75 * 0.6)])  # and class 2 has 0.425
    assert found.rankings == [close([(1, 0.6), (0, 0.2), (2, 0.2)])]


def test_confusable_classes_are_one_in_an_unlabelled_image():
    alike = np.eye(3, dtype=bool)
    alike[0, 2] = alike[2, 0] = True
    found = unlabelled(image_of(LEFT), [[0.3, 0.4, 0.3], [0.3, 0.4, 0.3]], alike)
    assert found.rankings == [close([(0, 0.6), (1, 0.4)])]
    assert found.labels == close([(0, 0.6), (1, 0.4)])


def labels_of(tmp_path, rows, labeler, **options):
    """The labels stage's rows and facts for a shard."""
    config = BuildConfig(out=str(tmp_path), **options)
    images = [ImageInput(row.image_id, row.image_id, row.label, (1, 1)) for row in rows]
    plan = Plan(
        config, Listing(Path(tmp_path), Images.of(images), Counter()), tmp_path / "work", lease_for(tmp_path / "work")
    )
    (shard,) = plan.shards
    table = table_of(rows, RegionsRow)
    plan.ledger("regions").commit(shard.file, "", {}, UnitOutput(len(rows), {}, partial(pq.write_table, table)))
    plan.ledger("labeler").commit(LABELER_FILE, "", {}, UnitOutput(1, {}, labeler.save))
    done = LabelsStage(plan).compute(shard, lambda count: None)
    done.write(tmp_path / "labels.parquet")
    return read_rows(tmp_path / "labels.parquet", LabelsRow), done.facts


def test_the_stage_applies_the_labeler_and_its_trust_to_each_image(tmp_path):
    """Features are logits of three classes; the labeler's trust decides whether an original label is found."""
    features = np.log(np.array([[0.2, 0.6, 0.2], [0.5, 0.125, 0.375]])).astype("<f2").tobytes()
    shown = image_of(LEFT, label=1, objects=1, features=features)
    rows = [shown, image_of(LEFT, features=features), RegionsRow(image_id="c", label=1, status="unreadable")]
    rows[1].image_id = "b"
    labeler = Labeler.of_classifier(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    for trust, was_found in ((EVEN, False), (SURE, True)):
        labeler.trust = trust
        (one, two, three), facts = labels_of(tmp_path / str(was_found), rows, labeler, temperature=1.0)
        assert one.found is was_found
        assert (two.found, three) == (None, LabelsRow(image_id="c"))
        assert (facts["with_original"], facts["original_found"]) == (1, int(was_found))
        assert dict(zip(one.labels, one.scores, strict=True))[1] == pytest.approx(
            0.2 if trust is EVEN else 9 / 13, abs=1e-3
        )
    assert two.topk_labels == [[1, 0, 2]]
    assert two.labels == [1, 0, 2]
    np.testing.assert_allclose(two.scores, [0.6, 0.5, 0.375], atol=1e-3)
    assert one.kept == two.kept == [0]


def test_by_regions_the_original_label_and_the_whole_image_do_not_count():
    p = [[0.1, 0.2, 0.7, 0.0], [0.0, 0.0, 0.4, 0.6], [0.0, 1.0, 0.0, 0.0]]
    found = by_regions(image_of(LEFT, RIGHT, label=1), p)
    assert found.labels == close([(2, 0.7), (3, 0.6)])
    assert found.found is False
    assert found.rankings == [close([(2, 0.7), (1, 0.2), (0, 0.1)]), close([(3, 0.6), (2, 0.4)])]
    assert found.kept == [0, 1]
    assert by_regions(image_of(LEFT, RIGHT, label=3), p).found is True
    assert by_regions(image_of(LEFT, RIGHT), p).found is None
    assert by_regions(image_of(label=1), [[0.0, 1.0, 0.0, 0.0]]).labels == []


def test_by_regions_only_the_best_class_of_what_sees_the_whole_image_is_added():
    p = [[0.1, 0.2, 0.7, 0.0], [0.0, 1.0, 0.0, 0.0]]
    whole = {"whole_classes": [3, 0], "whole_scores": [0.8, 0.6]}
    assert by_regions(image_of(LEFT, label=1, **whole), p).labels == close([(3, 0.8), (2, 0.7)])
    whole["whole_scores"] = [0.4, 0.3]
    assert by_regions(image_of(LEFT, label=1, **whole), p).labels == close([(2, 0.7)])
    places = np.array([0.9, 0.6, 0, 0], "<f2").tobytes()
    assert by_regions(image_of(LEFT, places=places), p).labels == [
        (0, pytest.approx(0.9, abs=1e-3)),
        *close([(2, 0.7)]),
    ]
