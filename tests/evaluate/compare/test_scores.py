import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlimagenet_data.evaluate.compare.label_sets import read_labels, single_labels
from mlimagenet_data.evaluate.compare.scores import reliability, score_measure, weighted_auroc
from mlimagenet_data.evaluate.metrics.calibration import calibration
from mlimagenet_data.evaluate.sets.examples import Example
from tests.evaluate.compare.test_label_sets import truth_of

ITEMS = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(ITEMS)
def test_weighted_auroc_equals_a_count_of_pairs(items):
    scores, positive, *weights = (np.array(column) for column in zip(*items, strict=True))
    found = weighted_auroc(scores / 4, positive, np.array(weights, np.float64))
    for value, draw in zip(found, weights, strict=True):
        high, low = (np.repeat(scores, np.where(mask, draw, 0)).tolist() for mask in (positive, ~positive))
        pairs = [(a > b) + (a == b) / 2 for a in high for b in low]
        assert value == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)


def test_scores_by_hand():
    truth = truth_of(
        Example("a", (1,), (), 1), Example("b", (3,), (), 4), Example("c", (5,), (), 6), Example("d", (7,), (), 7)
    )
    originals = [1, 4, 6, 7]
    sides = [((1, 0.95), (2, 0.31)), ((3, 0.6), (4, 0.4)), ((6, 0.8),), None]
    measure = score_measure(read_labels(truth, sides, originals))
    found = {name: value[0] for name, value in measure(np.ones((1, 4))).items()}
    # originals 0.95 right, 0.4 and 0.8 wrong; added 0.31 wrong, 0.6 right: each in a bin of its own
    expected = {
        "ece": (0.05 + 0.4 + 0.8 + 0.31 + 0.4) / 5, "ece_original": (0.05 + 0.4 + 0.8) / 3, "ece_added": (0.31 + 0.4) / 2,
        "wrong_auroc": 2 / 4,  # wrong: doubts 0.6, 0.2; right: 0.05, and 1 for the image that the dataset lacks
        "wrong_not_best": 1 / 2,
    }  # fmt: skip
    assert found == pytest.approx(expected)
    single = score_measure(read_labels(truth, single_labels(originals), originals))(np.ones((1, 4)))
    assert single["ece"] == pytest.approx(1 - 2 / 4)  # one minus the share that is right
    assert single["wrong_auroc"] == 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), max_size=3), min_size=1, max_size=6), st.data())
def test_calibration_errors_of_draws_equal_those_of_repeated_images(images, data):
    truth = truth_of(
        *[Example("a", tuple(k for k, (_, right) in enumerate(image) if right), (), 0) for image in images]
    )
    sides = [tuple((k, score) for k, (score, _) in enumerate(image)) for image in images]
    readings = read_labels(truth, sides, [0] * len(images))
    draw = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(images), max_size=len(images))), np.float64)
    pairs = [pair for image, times in zip(images, draw, strict=True) for pair in image * int(times)]
    scores, right = np.array([s for s, _ in pairs], np.float64), np.array([r for _, r in pairs], np.bool_)
    found = score_measure(readings)(draw[None])["ece"][0]
    assert found == pytest.approx(calibration(scores, right).error, nan_ok=True)
    assert reliability(readings)["all"].counts.sum() == sum(map(len, images))


def test_images_without_labels_have_no_calibration_error():
    truth = truth_of(Example("a", (1,), (), 1))
    found = score_measure(read_labels(truth, [()], [1]))(np.ones((1, 1)))
    assert np.isnan(found["ece"][0])
    assert np.isnan(found["wrong_auroc"][0])
