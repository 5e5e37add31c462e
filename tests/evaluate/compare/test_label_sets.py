from pathlib import Path

import numpy as np
import pytest

from mlimagenet_data.evaluate.compare.label_sets import label_measure, read_labels, single_labels
from mlimagenet_data.evaluate.sets.examples import Example
from mlimagenet_data.evaluate.sets.truth import Truth

NAN = float("nan")


def truth_of(*examples, unjudged=()):
    judged = np.ones(1000, np.bool_)
    judged[list(unjudged)] = False
    return Truth("made up", Path("truth"), tuple(str(k) for k in range(len(examples))), examples, judged, {})


def figures(truth, sides, originals):
    measure = label_measure(read_labels(truth, sides, originals))
    return {name: value[0] for name, value in measure(np.ones((1, len(truth)))).items()}


TRUTH = truth_of(Example("a", (1, 2), (), 1), Example("b", (3,), (), 4), Example("c", (5, 6, 7, 8), (9,), 5))
ORIGINALS = [1, 4, 5]


def test_label_sets_by_hand():
    sides = [((1, 0.9), (3, 0.5)), ((3, 0.8), (4, 0.1)), ((9, 0.9), (5, 0.7), (6, 0.6))]
    # right: 1; 3; 5, 6. The unclear 9 is left out, but counts as a right best label. Added: 3 (wrong); 3 and 6 (right).
    expected = {
        "f1": 8 / 13, "precision": 4 / 6, "recall": 4 / 7, "added": 3, "added_right": 2 / 3, "others_found": 2 / 5,
        "labels_per_image": 2, "best_right": 1, "f1_of_1": 2 / 3, "f1_of_2": 2 / 4, "f1_of_3": NAN, "f1_of_4_or_more": 4 / 6,
    }  # fmt: skip
    assert figures(TRUTH, sides, ORIGINALS) == pytest.approx(expected, nan_ok=True)


def test_the_single_label_by_hand():
    expected = {
        "f1": 4 / 10, "precision": 2 / 3, "recall": 2 / 7, "added": 0, "added_right": NAN, "others_found": 0,
        "labels_per_image": 1, "best_right": 2 / 3, "f1_of_1": 0, "f1_of_2": 2 / 3, "f1_of_3": NAN, "f1_of_4_or_more": 2 / 5,
    }  # fmt: skip
    assert figures(TRUTH, single_labels(ORIGINALS), ORIGINALS) == pytest.approx(expected, nan_ok=True)


def test_images_that_the_dataset_lacks_count_as_empty():
    found = figures(TRUTH, [((1, 0.9),), None, None], ORIGINALS)
    assert (found["precision"], found["recall"], found["best_right"]) == (1, 1 / 7, 1 / 3)
    assert found["labels_per_image"] == 1 / 3


def test_classes_that_nobody_looked_for_are_left_out():
    truth = truth_of(Example("a", (1,), (), 2), unjudged=[2, 3])
    found = figures(truth, [((2, 0.9), (1, 0.8), (3, 0.7))], [2])
    assert (found["precision"], found["best_right"], found["added"]) == (1, 1, 1)
    single = figures(truth, single_labels([2]), [2])
    assert single["labels_per_image"] == 0


def test_an_unknown_original_is_no_label():
    truth = truth_of(Example("a", (1,)))
    assert figures(truth, single_labels([None]), [None])["labels_per_image"] == 0
    assert figures(truth, [((1, 0.9),)], [None])["added_right"] == 1
