import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    precision_recall_fscore_support,
)

from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.calibration import calibration
from mlimagenet_data.evaluate.metrics.decisions import (
    class_mean,
    decision_quality,
    is_right,
    thresholds_by_count,
    top_k,
)
from mlimagenet_data.evaluate.metrics.ranking import (
    average_precision,
    class_average_precision,
    sample_average_precision,
)

TIED = st.sampled_from([-3.0, -0.0, 0.0, 0.25, 0.5, 1.0])
ANY = st.floats(-1e3, 1e3, width=32)


@st.composite
def cases(draw, undecided=False):
    """Draw scores (many ties, all equal, random) and targets (none, all or some positive)."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 5)))
    value = draw(st.sampled_from([TIED, ANY, st.just(0.5)]))
    scores = [draw(st.lists(value, min_size=shape[1], max_size=shape[1])) for _ in range(shape[0])]
    kinds = st.sampled_from([st.just(0), st.just(1), st.integers(-1 if undecided else 0, 1)])
    columns = [draw(st.lists(draw(kinds), min_size=shape[0], max_size=shape[0])) for _ in range(shape[1])]
    return np.array(scores, np.float32), np.array(columns, np.int8).T.copy()


def sklearns(score, *arrays, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no positives, no predictions
        return score(*arrays, **options)


def slow_average_precision(scores, positive):
    """Compute it by definition: sum precision times the gain in recall over the thresholds."""
    out, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        new = (taken & positive).sum() / positive.sum()
        out += (new - recall) * (taken & positive).sum() / taken.sum()
        recall = new
    return out


@given(cases())
def test_average_precision_of_classes_equals_scikit_learns(case):
    scores, targets = case
    found = class_average_precision(scores, targets)
    for k, value in enumerate(found):
        if not targets[:, k].any():
            assert np.isnan(value)
            continue
        expected = sklearns(average_precision_score, targets[:, k], scores[:, k])
        assert value == pytest.approx(expected, abs=1e-6)
        assert value == pytest.approx(slow_average_precision(scores[:, k], targets[:, k] == 1), abs=1e-6)


@given(cases())
def test_average_precision_of_images_equals_scikit_learns(case):
    scores, targets = case
    found = sample_average_precision(scores, targets)
    some = targets.any(axis=1)
    assert np.array_equal(np.isnan(found), ~some)
    if some.any():
        expected = sklearns(label_ranking_average_precision_score, targets[some], scores[some])
        assert found[some].mean() == pytest.approx(expected, abs=1e-6)
        if targets.shape[1] > 1:
            expected = sklearns(average_precision_score, targets[some], scores[some], average="samples")
            assert found[some].mean() == pytest.approx(expected, abs=1e-6)


@given(cases(undecided=True))
def test_undecided_entries_are_ignored(case):
    scores, targets = case
    for k, value in enumerate(class_average_precision(scores, targets)):
        decided = targets[:, k] >= 0
        expected = average_precision(scores[decided, k], targets[decided, k] == 1)
        assert value == pytest.approx(expected, nan_ok=True)
    other = np.where(targets < 0, 1e9, scores).astype(np.float32)
    np.testing.assert_array_equal(sample_average_precision(other, targets), sample_average_precision(scores, targets))


def test_large_random_arrays_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    scores = generator.random((3000, 70), np.float32).round(3)  # ties among 3000 in every class
    targets = (generator.random(scores.shape) < generator.random(70) * 0.2).astype(np.int8)
    found = class_average_precision(scores, targets)
    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in range(70)]
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_rejected_with_row_and_class(value):
    scores, targets = np.zeros((5000, 40), np.float32), np.ones((5000, 40), np.int8)
    scores[4500, 33] = value
    for metric in (class_average_precision, sample_average_precision):
        with pytest.raises(EvaluationError, match=r"row 4500, class 33; must be finite"):
            metric(scores, targets)
    with pytest.raises(EvaluationError, match=r"row 4500, class 33"):
        thresholds_by_count(scores, np.ones(40, int))


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.zeros(3), np.zeros(3), r"floats of shape \(images, classes\)"),
        (np.zeros((3, 2), int), np.zeros((3, 2)), r"floats of shape"),
        (np.zeros((3, 2)), np.zeros((2, 3)), r"targets: shape \(2, 3\); must equal the scores' shape \(3, 2\)"),
        (np.zeros((3, 2)), np.array([[0, 1], [0, 7], [0, 0]]), r"targets: 7 in row 1, class 1"),
    ],
)
def test_arrays_that_do_not_match_are_rejected(scores, targets, message):
    with pytest.raises(EvaluationError, match=message):
        class_average_precision(scores, targets)


@given(cases(), st.data())
def test_precision_recall_and_f1_equal_scikit_learns(case, data):
    scores, targets = case
    rows = st.lists(st.booleans(), min_size=scores.size, max_size=scores.size)
    predicted = np.array(data.draw(rows)).reshape(scores.shape)
    found = decision_quality(predicted, targets)
    classes, images = targets.any(axis=0), targets.any(axis=1)
    if not targets.any():
        assert np.isnan([*found.micro, *found.macro, *found.samples]).all()
        return
    for name, kept in (("micro", np.s_[:, :]), ("macro", np.s_[:, classes]), ("samples", np.s_[images])):
        truth, guess = targets[kept], predicted[kept]
        if truth.shape[1] == 1:  # scikit-learn treats a single column as a binary problem
            truth, guess = np.pad(truth, ((0, 0), (0, 1))), np.pad(guess, ((0, 0), (0, 1)))
            if name == "macro":
                continue
        expected = sklearns(precision_recall_fscore_support, truth, guess, average=name, zero_division=0)[:3]
        assert tuple(getattr(found, name)) == pytest.approx(expected, abs=1e-6)


def test_predictions_of_undecided_classes_are_ignored():
    targets = np.array([[1, -1, 0], [0, -1, 1]], np.int8)
    few, many = targets == 1, targets != 0
    assert decision_quality(few, targets) == decision_quality(many, targets)
    assert decision_quality(many, targets).micro == (1.0, 1.0, 1.0)


@given(cases(), st.integers(1, 5))
def test_top_k_selects_the_k_best_classes_and_the_first_of_ties(case, k):
    scores, _ = case
    if k > scores.shape[1]:
        with pytest.raises(EvaluationError, match=f"k is {k}; must be between 1 and {scores.shape[1]}"):
            top_k(scores, k)
        return
    for row, taken in zip(scores, top_k(scores, k), strict=True):
        best = sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]
        assert sorted(best) == np.flatnonzero(taken).tolist()


@given(cases())
def test_thresholds_by_count_predict_the_counts_except_for_ties(case):
    scores, targets = case
    counts = targets.astype(int).sum(axis=0)
    thresholds = thresholds_by_count(scores, counts)
    for column, count, threshold in zip(scores.T, counts, thresholds, strict=True):
        assert (column > threshold).sum() < max(count, 1)
        assert (column >= threshold).sum() >= count
        if len(set(column.tolist())) == len(column):
            assert (column >= threshold).sum() == count


@pytest.mark.parametrize("counts", [[1], [4, 0], [-1, 0]])
def test_invalid_counts_are_rejected(counts):
    with pytest.raises(EvaluationError, match="2 numbers between 0 and 3"):
        thresholds_by_count(np.zeros((3, 2)), np.array(counts))


def test_accuracy_counts_undecided_classes_as_correct_and_averages_over_classes():
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1], [0, 0, 1]], np.int8)
    right = is_right(np.array([0, 1, 1, 1]), targets)
    assert right.tolist() == [True, True, True, False]
    assert class_mean(right, np.array([0, 0, 2, 2])) == pytest.approx(0.75)
    assert class_mean(right, np.array([0, 0, 0, 2])) == pytest.approx(0.5)
    assert class_mean(right, np.array([-1, -1, 5, -1])) == 1
    assert np.isnan(class_mean(right, np.full(4, -1)))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 20))
def test_the_calibration_error_follows_its_definition(pairs, bins):
    confidence, right = np.array([c for c, _ in pairs]), np.array([r for _, r in pairs], bool)
    found = calibration(confidence, right, bins)
    assert found.counts.sum() == len(pairs)
    expected = 0.0
    for b in range(bins):
        inside = [(c, r) for c, r in pairs if (b < c * bins <= b + 1) or (b == 0 and c == 0)]
        assert found.counts[b] == len(inside)
        if inside:
            mean, share = np.mean([c for c, _ in inside]), np.mean([r for _, r in inside])
            assert (found.confidence[b], found.accuracy[b]) == pytest.approx((mean, share))
            expected += len(inside) / len(pairs) * abs(mean - share)
        else:
            assert np.isnan(found.accuracy[b])
    assert found.error == pytest.approx(expected) if pairs else np.isnan(found.error)


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_confidences_outside_0_and_1_are_rejected(value):
    with pytest.raises(EvaluationError, match="in row 1; must be a probability"):
        calibration(np.array([0.5, value]), np.array([True, False]))
