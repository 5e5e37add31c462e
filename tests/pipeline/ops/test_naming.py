"""Names of regions: the best classes, classes that absorb others, trust in the original label, duplicates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.ops.naming import best_classes, drop_duplicates, rank, trust_original

seeds = st.integers(0, 10_000)


def top(probabilities, count, confusable=None):
    return rank(probabilities, best_classes(probabilities[None], 10 * count)[0], count, confusable)


@given(seeds, st.integers(1, 40), st.integers(1, 5))
def test_the_best_classes_are_those_of_a_full_sort(seed, count, levels):
    p = np.random.default_rng(seed).integers(0, 10 * levels, (3, 30)).astype(np.float32)
    best = best_classes(p, count)
    for row, places in zip(p, best, strict=True):
        expected = np.argsort(-row, kind="stable")[:count]
        np.testing.assert_array_equal(row[places], row[expected])
        clear = row[places] > row[places].min()  # of those that tie for the last place any will do
        np.testing.assert_array_equal(places[clear], expected[clear])


def test_a_ranking_is_the_best_classes_without_zeros():
    probabilities = np.array([0.25, 0, 0.5, 0.25], np.float32)
    assert top(probabilities, 2) == [(2, 0.5), (0, 0.25)]
    assert top(probabilities, 4) == [(2, 0.5), (0, 0.25), (3, 0.25)]
    assert top(np.zeros(4, np.float32), 2) == []
    assert top(probabilities, 4, np.eye(4, dtype=bool)) == top(probabilities, 4)


def test_confusable_classes_are_named_once_with_the_sum_of_their_scores():
    probabilities = np.array([0.4, 0.3, 0.2, 0.06, 0.04], np.float32)
    alone = np.eye(5, dtype=bool)
    assert [index for index, _ in top(probabilities, 3, alone)] == [0, 1, 2]
    alike = alone.copy()
    alike[0, 2] = alike[2, 0] = alike[2, 3] = alike[3, 2] = True
    ranking = top(probabilities, 5, alike)
    assert [index for index, _ in ranking] == [0, 1, 3, 4]  # 3 is like 2, but 2 is not named
    np.testing.assert_allclose([score for _, score in ranking], [0.6, 0.3, 0.06, 0.04], rtol=1e-6)


def test_a_sum_can_change_the_order_and_never_exceeds_one():
    alike = np.eye(3, dtype=bool)
    alike[1, 2] = alike[2, 1] = True
    assert [index for index, _ in top(np.array([0.4, 0.35, 0.25], np.float32), 2, alike)] == [1, 0]
    assert top(np.array([0.7, 0.2, 0.1], np.float32), 1, np.ones((3, 3), bool)) == [(0, 1.0)]


@pytest.mark.parametrize(
    ("odds", "present", "expected"),
    [
        (1.0, [1, 1, 1], [0.2, 0.3, 0.5]),
        (4.0, [1, 1, 1], [0.5, 0.1875, 0.3125]),  # odds of a quarter times 4 are 1; the others share a half as 3 to 5
        (4.0, [0.4, 1, 0.3], [0.4, 0.1875, 0.3]),
        (0.0, [1, 1, 1], [0, 0.375, 0.625]),
    ],
)
def test_the_originals_odds_rise_by_its_prior_odds(odds, present, expected):
    p = np.array([[0.2, 0.3, 0.5]], np.float32)
    found = trust_original(p, 0, odds, np.array(present, np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_a_certain_class_stays_certain_and_an_impossible_one_impossible():
    p = np.array([[1, 0, 0], [0, 0.5, 0.5]], np.float32)
    np.testing.assert_allclose(trust_original(p, 0, 9.0, np.ones(3, np.float32)), p)
    assert trust_original(np.zeros((0, 3), np.float32), 0, 9.0, np.ones(3, np.float32)).shape == (0, 3)


@settings(deadline=None)
@given(seeds, st.integers(0, 4), st.floats(0.01, 1000))
def test_trusted_rows_sum_to_one_and_stay_below_what_is_present(seed, original, odds):
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.full(5, 0.3), size=4).astype(np.float32)
    everything = np.ones(5, np.float32)
    found = trust_original(p, original, odds, everything)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    rise = (found - p)[:, original] * np.sign(odds - 1)
    assert (rise >= -1e-6).all()
    np.testing.assert_allclose(trust_original(p, original, 1.0, everything), p, atol=1e-6)
    present = generator.random(5).astype(np.float32)
    np.testing.assert_array_equal(trust_original(p, original, odds, present), np.minimum(found, present))
    others = np.delete(np.arange(5), original)
    np.testing.assert_allclose(  # the other classes keep their shares of one another
        found[:, others] * p[:, others].sum(axis=1)[:, None], p[:, others] * found[:, others].sum(axis=1)[:, None],
        atol=1e-6,
    )  # fmt: skip


# left half, left three quarters, right half: the first two have an IoU of 2/3, the last two of 1/4
OVERLAPS = np.array([[1, 2 / 3, 0], [2 / 3, 1, 1 / 4], [0, 1 / 4, 1]])


@pytest.mark.parametrize(
    ("merge_iou", "names", "expected"),
    [
        (0.6, [3, 3, 3], [1, 2]),  # the better one of two that overlap
        (0.7, [3, 3, 3], [0, 1, 2]),
        (0.6, [3, 4, 3], [0, 1, 2]),  # other classes
        (0.6, None, [1, 2]),  # whatever their classes
        (0.2, None, [1]),
        (0.0, [3, 3, 3], [1]),
        (1.1, [3, 3, 3], [0, 1, 2]),
    ],
)
def test_the_first_of_duplicate_regions_is_kept(merge_iou, names, expected):
    assert drop_duplicates(OVERLAPS, [1, 0, 2], names, merge_iou) == expected


def test_equal_regions_are_published_once():
    assert drop_duplicates(np.ones((2, 2)), [1, 0], [4, 4], 1.0) == [1]


def test_only_regions_in_the_order_are_published():
    assert drop_duplicates(OVERLAPS, [2, 0], [1, 2, 1], 0.6) == [0, 2]
    assert drop_duplicates(np.zeros((0, 0)), [], None, 0.5) == []


@settings(deadline=None)
@given(seeds, st.integers(0, 7), st.booleans(), st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.5]))
def test_duplicates_are_those_of_the_obvious_loop(seed, count, whatever, merge_iou):
    generator = np.random.default_rng(seed)
    masks = generator.random((count, 6)) < 0.6
    masks[:, 0] = True
    overlaps = np.array([[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]).reshape(count, count)
    order = generator.permutation(count)[: generator.integers(0, count + 1)].tolist()
    names = None if whatever else generator.integers(0, 2, count).tolist()
    published = []
    for region in order:
        is_new = True
        for earlier in published:
            alike = names is None or names[region] == names[earlier]
            if alike and overlaps[region][earlier] >= merge_iou:
                is_new = False
        if is_new:
            published.append(region)
    assert drop_duplicates(overlaps, order, names, merge_iou) == sorted(published)
