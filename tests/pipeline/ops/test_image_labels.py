"""An image's labels: collected from regions and whole image, or chosen beside an original label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.config.options import BuildConfig
from build.labeler.originals import OriginalTrust
from build.ops.image_labels import collect, label_beside_original, rival_of

WHOLE = [(0, 0.5), (1, 0.3)]
EVEN = OriginalTrust(error=0.5, weight=1.0)  # a score is own / (own + rival)
SURE = OriginalTrust(error=0.1, weight=1.0)


def labels_of(regions, threshold=0.13):
    return collect(regions, WHOLE, None, threshold)


def test_labels_are_the_best_scores_over_regions_and_the_whole_image():
    assert labels_of([[(2, 0.9), (0, 0.2)], [(2, 0.4), (0, 0.7)]]) == [(2, 0.9), (0, 0.7), (1, 0.3)]


def test_without_regions_the_labels_are_the_whole_images():
    assert labels_of([]) == WHOLE


def test_equal_scores_are_in_class_order():
    assert labels_of([[(3, 0.6), (2, 0.6)]]) == [(2, 0.6), (3, 0.6), *WHOLE]


def test_a_score_at_the_threshold_counts():
    assert labels_of([[(2, 0.4)]], 0.4) == [(0, 0.5), (2, 0.4)]
    assert labels_of([[(2, 0.4)]], 0.41) == [(0, 0.5)]
    assert labels_of([[(2, 0.2)]], 0.9) == []


def test_a_second_opinion_counts_a_quarter():
    opinion = np.array([0.1, 0.9, 0.5, 1.0], np.float16)
    found = collect([[(2, 0.4)]], WHOLE, opinion, 0.41)
    assert [index for index, _ in found] == [1, 2]  # 0.45 and 0.425; 0 has only 0.4, and 3 nothing but the opinion
    np.testing.assert_allclose([score for _, score in found], [0.45, 0.425], atol=1e-3)


few_scores = st.sampled_from([0.001, 0.25, 0.4, 0.5, 1.0])  # few values, so that there are ties and thresholds are met
few_rankings = st.lists(st.tuples(st.integers(0, 3), few_scores), max_size=3, unique_by=lambda pair: pair[0])
opinions = st.none() | st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4)


def in_order(labels):
    """Bubble sort: best first, lower class first among equals."""
    while True:
        swaps = [
            k for k in range(1, len(labels)) if (-labels[k - 1][1], labels[k - 1][0]) > (-labels[k][1], labels[k][0])
        ]
        if not swaps:
            return labels
        labels[swaps[0] - 1], labels[swaps[0]] = labels[swaps[0]], labels[swaps[0] - 1]


@settings(deadline=None)
@given(regions=st.lists(few_rankings, max_size=3), whole=few_rankings, opinion=opinions, threshold=few_scores)
def test_collecting_agrees_with_a_slow_reference(regions, whole, opinion, threshold):
    expected = []
    for index in range(4):
        scores = [score for ranking in [*regions, whole] for c, score in ranking if c == index]
        if not scores:
            continue
        score = max(scores) if opinion is None else 0.75 * max(scores) + 0.25 * opinion[index]
        if score >= threshold:
            expected.append((index, score))
    found = collect(regions, whole, None if opinion is None else np.array(opinion, np.float16), threshold)
    assert found == in_order(expected)


def test_the_rival_is_the_best_other_class():
    assert rival_of({4: 0.2, 7: 0.5, 2: 0.3}, 4) == (0.2, 0.5)
    assert rival_of({4: 0.2, 7: 0.5, 2: 0.3}, 7) == (0.5, 0.3)
    assert rival_of({4: 0.2}, 9) == (0.0, 0.2)
    assert rival_of({4: 0.2}, 4) == (0.2, 0.0)


def beside(whole, original=1, trust=EVEN, **options):
    return label_beside_original(whole, original, trust, BuildConfig(**options))


def test_other_labels_need_the_added_threshold():
    whole = {2: 0.5, 1: 0.5, 3: 0.25}
    assert beside(whole) == ([(1, 0.5), (2, 0.5)], True)
    assert beside(whole, added_threshold=0.25)[0] == [(1, 0.5), (2, 0.5), (3, 0.25)]
    assert beside(whole, added_threshold=0.26)[0] == [(1, 0.5), (2, 0.5)]
    assert beside(whole, label_threshold=0.9)[0] == [(1, 0.5), (2, 0.5)]  # it is for images without an original label


def test_the_original_label_is_scored_by_trust_rather_than_by_its_probability():
    labels, found = beside({2: 0.3, 1: 0.1}, trust=SURE)
    assert labels == [(1, pytest.approx(0.75))]  # odds of 9 times a third
    assert found
    assert beside({2: 0.9, 1: 0.1}, trust=SURE)[0] == [(2, 0.9), (1, pytest.approx(0.5))]


@pytest.mark.parametrize(
    ("rule", "own", "expected", "was_found"),
    [
        ("keep", 0.4, [(1, 0.5), (2, 0.4)], True),  # as likely right as wrong: found
        ("drop", 0.4, [(1, 0.5), (2, 0.4)], True),
        ("keep", 0.1, [(2, 0.4), (1, 0.2)], False),
        ("drop", 0.1, [(2, 0.4)], False),
    ],
)
def test_an_original_label_that_is_rather_wrong_is_kept_or_dropped(rule, own, expected, was_found):
    labels, found = beside({2: 0.4, 1: own}, unconfirmed=rule)
    assert labels == [(index, pytest.approx(score)) for index, score in expected]
    assert found is was_found


def test_a_kept_label_without_evidence_has_a_score_above_zero():
    labels, found = beside({2: 1.0})
    assert [index for index, _ in labels] == [2, 1]
    assert np.float32(labels[1][1]) > 0
    assert not found


def test_a_class_of_probability_0_is_no_label():
    assert beside({2: 0.0, 1: 0.5}, added_threshold=0.0)[0] == [(1, pytest.approx(1))]


@settings(deadline=None)
@given(
    whole=st.dictionaries(st.integers(0, 4), few_scores, min_size=1),
    original=st.integers(0, 4),
    error=st.sampled_from([0.05, 0.5]),
    added=few_scores,
    rule=st.sampled_from(["keep", "drop"]),
)
def test_choosing_agrees_with_a_slow_reference(whole, original, error, added, rule):
    trust = OriginalTrust(error, 1.0)
    expected, own, rival = [], 0.0, 0.0
    for index, probability in whole.items():
        if index == original:
            own = probability
            continue
        rival = max(rival, probability)
        if probability >= added:
            expected.append((index, probability))
    score = trust.score(own, rival)
    if score >= 0.5 or rule == "keep":
        expected.append((original, score))
    labels, found = beside(whole, original, trust, added_threshold=added, unconfirmed=rule)
    assert labels == in_order(expected)
    assert found == (score >= 0.5)
    assert all(0 < value <= 1 for _, value in labels)
