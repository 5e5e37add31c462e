import numpy as np
import pytest

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.labelling.policy import ABSENT, PRESENT, UNDECIDED, LabelPolicy
from mlimagenet_data.labelling.targets import label_view, multi_hot, pooled, soft, with_ignore
from mlimagenet_data.views.view import view_of_box
from tests.support.annotated import random_rows, region, row, write_rows

SIZE = (40, 40)
LEFT = np.zeros((4, 4), bool)
LEFT[:, :2] = True


def record_of(tmp_path, regions, **options):
    return AnnotationStore(write_rows(tmp_path, [row("a", SIZE, regions, **options)]), "train").record(0)


def states(record, box=(0, 0, *SIZE), **options):
    return label_view(record, LabelPolicy(**options), view_of_box(SIZE, *box)).states


def test_a_crop_around_one_of_two_regions_has_only_its_label(tmp_path):
    record = record_of(tmp_path, [region(LEFT, 3), region(~LEFT, 7)])
    assert states(record) == {3: PRESENT, 7: PRESENT}
    assert states(record, (5, 2, 30, 16)) == {3: PRESENT, 7: ABSENT}
    assert states(record, (5, 22, 30, 16)) == {3: ABSENT, 7: PRESENT}


def test_classes_between_the_thresholds_are_undecided(tmp_path):
    record = record_of(tmp_path, [region(LEFT, 3)])
    assert states(record, (0, 10, 40, 30), coverage=1.0) == {3: PRESENT}  # half of the region
    assert states(record, (0, 12, 40, 28), coverage=1.0) == {3: UNDECIDED}
    assert states(record, (0, 12, 4, 4)) == {3: PRESENT}  # 2% of the region, but the whole view
    assert states(record, (0, 19, 40, 21), absent_visibility=0.05, absent_coverage=0.05) == {3: ABSENT}


def test_one_present_region_is_enough(tmp_path):
    record = record_of(tmp_path, [region(LEFT, 3), region(~LEFT, 3)])
    assert states(record, (0, 0, 40, 20)) == {3: PRESENT}


def test_regions_count_for_top_k_classes_that_reach_min_score(tmp_path):
    regions = [region(LEFT, 3, 0.9, [(7, 0.2)]), region(~LEFT, 7, 0.6, [(3, 0.1)])]
    record = record_of(tmp_path, regions)
    assert states(record, (0, 20, 40, 20), min_score=0.25) == {3: ABSENT, 7: PRESENT}
    assert states(record, (0, 20, 40, 20), min_score=0.05) == {3: PRESENT, 7: PRESENT}
    assert states(record, (0, 20, 40, 20)) == {3: PRESENT, 7: PRESENT}


def test_a_class_below_min_score_everywhere_is_in_its_best_region(tmp_path):
    regions = [region(LEFT, 3, 0.9, [(5, 0.2)]), region(~LEFT, 7, 0.6, [(5, 0.1)])]
    record = record_of(tmp_path, regions, label=5, labels=[(5, 0.2)])
    assert states(record, (0, 0, 40, 20), min_score=0.25) == {5: PRESENT}
    assert states(record, (0, 20, 40, 20), min_score=0.25) == {5: ABSENT}


@pytest.mark.parametrize(
    ("rule", "small", "most"), [("spread", UNDECIDED, PRESENT), ("keep", PRESENT, PRESENT), ("drop", ABSENT, ABSENT)]
)
def test_unlocated_classes_follow_their_rule(tmp_path, rule, small, most):
    record = record_of(tmp_path, [region(LEFT, 3)], labels=[(3, 0.9), (8, 0.4)])
    assert states(record, (0, 0, 20, 20), unlocated=rule)[8] == small
    assert states(record, (0, 0, 40, 30), unlocated=rule)[8] == most


def test_the_original_label_follows_its_rules(tmp_path):
    record = record_of(tmp_path, [region(LEFT, 3)], label=9, labels=[(3, 0.9), (9, 0.1)])
    nothing = (0, 21, 10, 1)  # less than 1% of the image
    assert states(record, nothing) == {3: ABSENT, 9: ABSENT}
    assert states(record, nothing, original="always") == {3: ABSENT, 9: PRESENT}
    assert states(record, original="if_located") == {3: PRESENT}
    assert states(record, nothing, empty="original") == {3: ABSENT, 9: PRESENT}
    assert states(record, (0, 0, 40, 20), empty="original", unlocated="drop") == {3: PRESENT, 9: ABSENT}


def test_an_undecided_original_label_is_present_unless_it_is_gone(tmp_path):
    record = record_of(tmp_path, [region(LEFT, 3), region(LEFT, 7)], label=3, labels=[(3, 0.9), (7, 0.9)])
    sliver = (0, 18, 40, 22)  # a tenth of both regions
    assert states(record, sliver) == {3: PRESENT, 7: UNDECIDED}
    assert states(record, sliver, original="as_others") == {3: UNDECIDED, 7: UNDECIDED}
    assert states(record, (0, 20, 40, 20)) == {3: ABSENT, 7: ABSENT}
    labels = label_view(record, LabelPolicy(), view_of_box((40, 40), *sliver))
    assert multi_hot(labels).nonzero()[0].tolist() == [3]
    assert with_ignore(labels)[[3, 7]].tolist() == [1.0, -1.0]
    assert soft(labels)[3] == pytest.approx(0.9)


def two_views(record, **options):
    """The state of class 3 in the left and in the right half, which show one region each."""
    return [states(record, (0, left, 40, 20), **options)[3] for left in (0, 20)]


@pytest.mark.parametrize(
    ("lower", "min_score", "expected"),
    [
        (0.5, 0.0, [PRESENT, PRESENT]),  # half of 1.0
        (0.49, 0.0, [PRESENT, ABSENT]),
        (0.6, 0.7, [PRESENT, ABSENT]),  # below min_score
        (0.6, 0.6, [PRESENT, PRESENT]),
    ],
)
def test_the_original_label_is_where_it_scores_at_least_half_its_best_score(tmp_path, lower, min_score, expected):
    regions = [region(LEFT, 3, 1.0), region(~LEFT, 7, 0.9, [(3, lower)])]
    record = record_of(tmp_path, regions, label=3)
    assert two_views(record, min_score=min_score) == expected


def test_other_labels_and_other_rules_take_all_regions(tmp_path):
    regions = [region(LEFT, 3, 1.0), region(~LEFT, 7, 0.9, [(3, 0.1)])]
    record = record_of(tmp_path, regions, label=3)
    assert two_views(record) == [PRESENT, ABSENT]
    for rule in ("as_others", "if_located"):
        assert two_views(record, original=rule) == [PRESENT, PRESENT]
    other = record_of(tmp_path / "other", regions, label=7)
    assert two_views(other) == [PRESENT, PRESENT]


def test_the_least_score_is_half_the_best_one_or_min_score():
    policy = LabelPolicy(min_score=0.25)
    assert policy.least_score(3, 3, 0.8) == pytest.approx(0.4)
    assert policy.least_score(3, 3, 0.4) == 0.25
    assert policy.least_score(3, 3, 0.2) == pytest.approx(0.2)  # a class below min_score is in its best region
    assert policy.least_score(3, 7, 0.8) == policy.least_score(3, None, 0.8) == 0.25
    assert LabelPolicy(min_score=0.25, original="as_others").least_score(3, 3, 0.8) == 0.25


def test_the_whole_image_has_the_images_labels(tmp_path):
    rows = random_rows(80, seed=3)
    store = AnnotationStore(write_rows(tmp_path, rows), "train")
    for number, expected in enumerate(rows):
        record = store.record(number)
        empty = [r["label"] for r in expected["regions"] if not r["area"]]
        named = {index for index, state in label_view(record, LabelPolicy()).states.items() if state == PRESENT}
        if not empty:  # a region without cells is visible nowhere
            assert named == set(expected["labels"])


def test_each_kind_of_target_has_the_expected_values(tmp_path):
    record = record_of(tmp_path, [region(LEFT, 3, 0.8, [(4, 0.1)]), region(~LEFT, 7, 0.6)])
    labels = label_view(record, LabelPolicy(coverage=0.6), view_of_box(SIZE, 0, 0, 40, 28))
    assert np.flatnonzero(multi_hot(labels)).tolist() == [3]
    assert soft(labels)[3] == pytest.approx(0.8)
    assert with_ignore(labels)[[3, 7]].tolist() == [1, -1]
    target = pooled(labels)
    assert target.sum() == pytest.approx(1)
    # 20 of 28 columns show region 0, 8 show region 1
    assert target[3] / target[7] == pytest.approx((20 * 0.8) / (8 * 0.6), rel=1e-5)
    assert target[3] / target[4] == pytest.approx(8, rel=1e-5)


def test_a_pooled_view_without_regions_falls_back_to_the_original_label(tmp_path):
    record = record_of(tmp_path, [region(LEFT, 3)], label=9)
    target = pooled(label_view(record, LabelPolicy(), view_of_box(SIZE, 0, 30, 10, 10)))
    assert np.flatnonzero(target).tolist() == [9]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"visibility": 0}, "visibility must be in"),
        ({"coverage": 1.5}, "coverage must be in"),
        ({"absent_visibility": 0.6}, "absent_visibility must be in"),
        ({"min_score": float("nan")}, "min_score"),
        ({"unlocated": "maybe"}, "spread, keep, drop"),
        ({"original": "no"}, "as_others"),
        ({"empty": "no"}, "none, original"),
    ],
)
def test_invalid_policies_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LabelPolicy(**options)
