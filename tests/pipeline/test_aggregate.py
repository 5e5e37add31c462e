import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.config import BuildConfig
from build.stages.labels import aggregate

WHOLE = np.array([0.5, 0.3, 0.1, 0.1], np.float32)
WHOLE_RANKING = [(0, 0.5), (1, 0.3)]


def run(regions, **options):
    return aggregate(regions, WHOLE_RANKING, WHOLE, None, BuildConfig(**options))


def test_labels_are_the_best_scores_over_regions_and_the_whole_image():
    labels, found = run([[(2, 0.9), (0, 0.2)], [(2, 0.4), (0, 0.7)]])
    assert labels == [(2, 0.9), (0, 0.7), (1, 0.3)]
    assert found is None


def test_the_whole_image_can_be_left_out_and_stands_in_without_regions():
    assert run([[(2, 0.9)]], whole_image=False)[0] == [(2, 0.9)]
    assert run([], whole_image=False)[0] == WHOLE_RANKING


def test_equal_scores_stand_in_class_order():
    assert run([[(3, 0.6), (2, 0.6)]], whole_image=False)[0] == [(2, 0.6), (3, 0.6)]


@pytest.mark.parametrize(
    ("original", "rule", "expected", "was_found"),
    [
        (2, "keep", [(2, 0.9), (0, 0.5), (1, 0.3)], True),
        (3, "keep", [(2, 0.9), (0, 0.5), (1, 0.3), (3, pytest.approx(0.1))], False),
        (3, "drop", [(2, 0.9), (0, 0.5), (1, 0.3)], False),
    ],
)
def test_the_original_label_is_kept_or_dropped(original, rule, expected, was_found):
    labels, found = aggregate([[(2, 0.9)]], WHOLE_RANKING, WHOLE, original, BuildConfig(original=rule))
    assert labels == expected
    assert found is was_found


rankings = st.lists(st.tuples(st.integers(0, 3), st.floats(0.01, 1.0)), max_size=4, unique_by=lambda pair: pair[0])


@given(st.lists(rankings, max_size=4), st.floats(0.0, 1.0), st.booleans())
def test_aggregation_agrees_with_the_words(regions, threshold, whole):
    labels, _ = run(regions, label_threshold=threshold, whole_image=whole)
    everything = [pair for ranking in regions for pair in ranking]
    if whole or not regions:
        everything += WHOLE_RANKING
    expected = {c: max(s for k, s in everything if k == c) for c, _ in everything}
    assert dict(labels) == {c: s for c, s in expected.items() if s >= threshold}
    assert [s for _, s in labels] == sorted((s for _, s in labels), reverse=True)
