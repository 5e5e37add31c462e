import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlimagenet_data.evaluate.compare.bootstrap import Group, additive, estimate, figures_of, share


def precision_and_sum(sums):
    return {"precision": share(sums[:, 0], sums[:, 1]), "sum": sums[:, 1]}


def test_a_share_of_nothing_is_undefined():
    np.testing.assert_equal(share(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12), st.integers(0, 5))
def test_draws_equal_figures_of_images_picked_one_by_one(pairs, seed):
    counts = np.array([(min(pair), max(pair)) for pair in pairs], np.float64)
    generator, slow = np.random.default_rng(seed), []
    for _ in range(40):
        right, given_labels = (
            counts[[int(k) for k in generator.integers(0, len(counts), len(counts))]].sum(axis=0).tolist()
        )
        slow.append(right / given_labels if given_labels else np.nan)
    groups = [Group("labels", additive(counts, precision_and_sum))]
    found = figures_of(groups, len(counts), 40, seed)["labels"]["precision"]
    total = counts.sum(axis=0)
    known = [value for value in slow if not np.isnan(value)]
    expected = np.percentile(known, [2.5, 97.5]) if known else [np.nan, np.nan]
    np.testing.assert_allclose(found.value, [total[0] / total[1] if total[1] else np.nan, *expected])
    assert (found.baseline, found.difference, found.other, found.other_difference) == (None, None, None, None)


def test_blocks_of_draws_change_nothing(monkeypatch):
    counts = np.random.default_rng(1).integers(0, 5, (7, 2)).astype(np.float64)
    groups = [Group("labels", additive(counts, precision_and_sum))]
    whole = figures_of(groups, 7, 25, 3)
    monkeypatch.setattr("mlimagenet_data.evaluate.compare.bootstrap._BLOCK", 20)
    assert figures_of(groups, 7, 25, 3) == whole


def test_differences_are_paired():
    better, worse = np.array([[1, 1], [1, 1], [0, 1.0]]), np.array([[1, 1], [0, 1], [0, 1.0]])
    measures = [additive(counts, precision_and_sum) for counts in (better, better, worse)]
    found = figures_of([Group("labels", *measures)], 3, 500, 0)["labels"]["precision"]
    assert found.difference == (0, 0, 0)  # the same images are drawn for both
    np.testing.assert_allclose(found.other_difference.value, 1 / 3)
    assert found.other_difference.low >= 0
    assert found.other.value == 1 / 3


def test_without_draws_the_interval_is_undefined():
    found = figures_of([Group("labels", additive(np.ones((2, 2)), precision_and_sum))], 2, 0, 0)
    np.testing.assert_equal(found["labels"]["sum"].value, [2.0, np.nan, np.nan])


def test_undefined_draws_are_left_out_of_the_interval():
    np.testing.assert_equal(estimate(np.array([0.5, np.nan, 0.25, 0.25])), [0.5, 0.25, 0.25])
