import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.config.options import BuildConfig
from build.labeler.head import Labeler
from build.records import RegionsRow
from build.stages.labels import _best, aggregate, choose_beside_original, drop_duplicates
from build.stages.labels import _top as top_of
from mlimagenet_data.annotations.masks import encode_mask

WHOLE = np.array([0.5, 0.3, 0.1, 0.1], np.float32)
WHOLE_RANKING = [(0, 0.5), (1, 0.3)]


def _top(probabilities, count, confusable):
    return top_of(probabilities, _best(probabilities[None], 10 * count)[0], count, confusable)


def run(regions, **options):
    return aggregate(regions, WHOLE_RANKING, WHOLE, None, BuildConfig(**options))


def test_labels_are_the_best_scores_over_regions_and_the_whole_image():
    labels, found = run([[(2, 0.9), (0, 0.2)], [(2, 0.4), (0, 0.7)]])
    assert labels == [(2, 0.9), (0, 0.7), (1, 0.3)]
    assert found is None


def test_without_regions_the_labels_are_the_whole_images():
    assert run([])[0] == WHOLE_RANKING


def test_equal_scores_are_in_class_order():
    assert run([[(3, 0.6), (2, 0.6)]])[0] == [(2, 0.6), (3, 0.6), *WHOLE_RANKING]


@pytest.mark.parametrize(
    ("original", "rule", "expected", "was_found"),
    [
        (2, "keep", [(2, 0.9), (0, 0.5), (1, 0.3)], True),
        (3, "keep", [(2, 0.9), (0, 0.5), (1, 0.3), (3, pytest.approx(0.1))], False),
        (3, "drop", [(2, 0.9), (0, 0.5), (1, 0.3)], False),
    ],
)
def test_the_original_label_is_kept_or_dropped(original, rule, expected, was_found):
    config = BuildConfig(unconfirmed=rule, added_threshold=0.2)
    labels, found = aggregate([[(2, 0.9)]], WHOLE_RANKING, WHOLE, original, config)
    assert labels == expected
    assert found is was_found


rankings = st.lists(st.tuples(st.integers(0, 3), st.floats(0.01, 1.0)), max_size=4, unique_by=lambda pair: pair[0])


@given(st.lists(rankings, max_size=4), st.floats(0.0, 1.0))
def test_aggregation_matches_its_definition(regions, threshold):
    labels, _ = run(regions, label_threshold=threshold)
    everything = [pair for ranking in [*regions, WHOLE_RANKING] for pair in ranking]
    expected = {c: max(s for k, s in everything if k == c) for c, _ in everything}
    assert dict(labels) == {c: s for c, s in expected.items() if s >= threshold}
    assert [s for _, s in labels] == sorted((s for _, s in labels), reverse=True)


def slow_aggregate(regions, whole, probabilities, original, config):
    """The rules one class at a time, in words: best score, threshold, original label."""
    labels, found = [], None if original is None else False
    for index in range(len(probabilities)):
        scores = [score for ranking in [*regions, whole] for c, score in ranking if c == index]
        least = config.label_threshold
        if original is not None and index != original:
            least = max(least, config.added_threshold)
        if scores and max(scores) >= least:
            labels.append((index, max(scores)))
            found = True if index == original else found
        elif index == original and config.unconfirmed == "keep":
            labels.append((index, max([*scores, float(probabilities[index]), float(np.finfo(np.float32).tiny)])))
    while True:  # bubble sort: best first, lower class first among equals
        swaps = [
            k for k in range(len(labels) - 1) if (-labels[k][1], labels[k][0]) > (-labels[k + 1][1], labels[k + 1][0])
        ]
        if not swaps:
            return labels, found
        labels[swaps[0]], labels[swaps[0] + 1] = labels[swaps[0] + 1], labels[swaps[0]]


few_scores = st.sampled_from([0.001, 0.25, 0.4, 0.5, 1.0])  # few values, so that there are ties and thresholds are met
few_rankings = st.lists(st.tuples(st.integers(0, 3), few_scores), max_size=3, unique_by=lambda pair: pair[0])


@settings(deadline=None)
@given(
    regions=st.lists(few_rankings, max_size=3),
    whole=few_rankings,
    probabilities=st.lists(st.sampled_from([0.0, 0.001, 0.25, 0.5, 1.0]), min_size=4, max_size=4),
    original=st.none() | st.integers(0, 3),
    threshold=few_scores,
    added=few_scores,
    rule=st.sampled_from(["keep", "drop"]),
)
def test_aggregation_agrees_with_a_slow_reference(regions, whole, probabilities, original, threshold, added, rule):
    config = BuildConfig(label_threshold=threshold, added_threshold=added, unconfirmed=rule)
    arguments = (regions, whole, np.array(probabilities, np.float32), original, config)
    labels, found = aggregate(*arguments)
    assert (labels, found) == slow_aggregate(*arguments)
    assert all(0 < score <= 1 for _, score in labels)
    if original is not None and rule == "keep":
        assert original in dict(labels)


def test_a_score_at_the_threshold_counts():
    assert run([[(2, 0.4)]], label_threshold=0.4)[0] == [(0, 0.5), (2, 0.4)]
    assert run([[(2, 0.4)]], label_threshold=0.41)[0] == [(0, 0.5)]


def test_other_classes_need_a_higher_score_beside_an_original_label():
    config = BuildConfig(label_threshold=0.2, added_threshold=0.45)
    assert aggregate([[(1, 0.44), (2, 0.45), (3, 0.2)]], [], WHOLE, 3, config)[0] == [(2, 0.45), (3, 0.2)]
    assert aggregate([[(1, 0.44), (2, 0.45), (3, 0.2)]], [], WHOLE, None, config)[0] == [(2, 0.45), (1, 0.44), (3, 0.2)]


def test_without_regions_the_whole_image_can_find_the_original_label():
    labels, found = aggregate([], WHOLE_RANKING, WHOLE, 1, BuildConfig(added_threshold=0.2))
    assert (labels, found) == (WHOLE_RANKING, True)


def test_a_kept_label_has_its_best_score_below_the_threshold():
    labels, found = aggregate([[(3, 0.2)]], WHOLE_RANKING, WHOLE, 3, BuildConfig(label_threshold=0.4))
    assert labels == [(0, 0.5), (3, 0.2)]
    assert found is False


def test_a_kept_label_without_evidence_has_a_score_above_zero():
    nothing = np.array([1, 0, 0, 0], np.float32)
    labels, _ = aggregate([[(0, 1.0)]], [(0, 1.0)], nothing, 2, BuildConfig())
    assert [index for index, _ in labels] == [0, 2]
    assert np.float32(labels[1][1]) > 0


def test_no_class_above_the_threshold_means_no_label():
    assert run([[(2, 0.2)]], label_threshold=0.9) == ([], None)


def test_confusable_classes_are_named_once_with_the_sum_of_their_scores():
    probabilities = np.array([0.4, 0.3, 0.2, 0.06, 0.04], np.float32)
    alone = np.eye(5, dtype=bool)
    assert [index for index, _ in _top(probabilities, 3, alone)] == [0, 1, 2]
    alike = alone.copy()
    alike[0, 2] = alike[2, 0] = alike[2, 3] = alike[3, 2] = True
    ranking = _top(probabilities, 5, alike)
    assert [index for index, _ in ranking] == [0, 1, 3, 4]  # 3 is like 2, but 2 is not named
    np.testing.assert_allclose([score for _, score in ranking], [0.6, 0.3, 0.06, 0.04], rtol=1e-6)


def test_a_sum_can_change_the_order_and_never_exceeds_one():
    alike = np.eye(3, dtype=bool)
    alike[1, 2] = alike[2, 1] = True
    assert [index for index, _ in _top(np.array([0.4, 0.35, 0.25], np.float32), 2, alike)] == [1, 0]
    assert _top(np.array([0.7, 0.2, 0.1], np.float32), 1, np.ones((3, 3), bool)) == [(0, 1.0)]


def test_confusable_classes_are_those_with_similar_weights():
    weight = np.array([[5.0, 0, 0], [5, 0.5, 0], [-5, 5, 0], [-5, -5, 0]], np.float32)
    alike = Labeler.of_classifier(weight, np.zeros(4, np.float32)).confusable(0.9)
    np.testing.assert_array_equal(alike, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(Labeler.of_classifier(weight, np.zeros(4, np.float32)).confusable(1.0), np.eye(4))


def encoded(*masks):
    return [encode_mask(np.array(mask, bool)) for mask in masks]


LEFT, MOST, RIGHT = [[1, 1, 0, 0]] * 2, [[1, 1, 1, 0]] * 2, [[0, 0, 1, 1]] * 2  # IoU of the first two: 2/3


@pytest.mark.parametrize(
    ("merge_iou", "classes", "expected"),
    [
        (0.6, (3, 3, 3), [1, 2]),  # the better-scored of two that overlap
        (0.7, (3, 3, 3), [0, 1, 2]),
        (0.6, (3, 4, 3), [0, 1, 2]),  # other classes
        (0.0, (3, 3, 3), [1]),
        (1.1, (3, 3, 3), [0, 1, 2]),
    ],
)
def test_the_best_of_duplicate_regions_is_kept(merge_iou, classes, expected):
    rankings = [[(index, score)] for index, score in zip(classes, (0.5, 0.8, 0.3), strict=True)]
    assert drop_duplicates(encoded(LEFT, MOST, RIGHT), [2, 4], rankings, [0, 1, 2], merge_iou) == expected


def test_equal_regions_are_published_once():
    assert drop_duplicates(encoded(LEFT, LEFT), [2, 4], [[(1, 0.5)], [(1, 0.5)]], [0, 1], 1.0) == [0]


def test_only_named_regions_are_published():
    rankings = [[(1, 0.5)], [(2, 0.01)], [(1, 0.4)]]
    assert drop_duplicates(encoded(LEFT, MOST, RIGHT), [2, 4], rankings, [0, 2], 0.85) == [0, 2]


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 5))
def test_the_best_classes_are_those_of_a_full_sort(seed, count, levels):
    p = np.random.default_rng(seed).integers(0, 10 * levels, (3, 30)).astype(np.float32)
    best = _best(p, count)
    for row, places in zip(p, best, strict=True):
        expected = np.argsort(-row, kind="stable")[:count]
        np.testing.assert_array_equal(row[places], row[expected])
        clear = row[places] > row[places].min()  # of those that tie for the last place any will do
        np.testing.assert_array_equal(places[clear], expected[clear])


def beside_original(scores, label=1, **options):
    row = RegionsRow(label=label, whole_classes=list(scores), whole_scores=list(scores.values()))
    return choose_beside_original(row, BuildConfig(**options))


def test_beside_an_original_label_only_the_whole_image_adds_labels():
    assert beside_original({2: 0.5, 1: 0.3, 3: 0.2}) == ([(2, 0.5), (1, 0.3)], True)
    assert beside_original({2: 0.5, 1: 0.3, 3: 0.2}, added_threshold=0.2)[0] == [(2, 0.5), (1, 0.3), (3, 0.2)]
    assert beside_original({2: 0.35, 1: 0.6}, added_threshold=0.35)[0] == [(1, 0.6), (2, 0.35)]


def test_an_original_label_that_the_whole_image_does_not_show_is_kept_or_dropped():
    assert beside_original({2: 0.9, 1: 0.05}) == ([(2, 0.9), (1, 0.05)], False)
    assert beside_original({2: 0.9, 1: 0.05}, unconfirmed="drop") == ([(2, 0.9)], False)
    labels, found = beside_original({2: 0.9})
    assert [index for index, _ in labels] == [2, 1]
    assert labels[1][1] > 0
    assert not found
