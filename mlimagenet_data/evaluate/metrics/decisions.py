"""Metrics of predicted classes: accuracy, precision, recall and F1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.arrays import Floats, Mask, Targets, checked_scores, columns

__all__ = ["Averages", "Quality", "class_mean", "decision_quality", "is_right", "thresholds_by_count", "top_k"]

_ROWS = 4096  # images to rank at a time


class Quality(NamedTuple):
    """Precision, recall and their harmonic mean, in [0, 1]; 0 if nothing is predicted."""

    precision: float
    recall: float
    f1: float


class Averages(NamedTuple):
    """Quality, averaged in three ways.

    Attributes:
        micro: Over all decisions at once.
        macro: Mean over the classes with positives.
        samples: Mean over the images with positives.
    """

    micro: Quality
    macro: Quality
    samples: Quality


def is_right(predicted: NDArray[np.integer], targets: Targets) -> Mask:
    """Return whether each image's predicted class is correct: (N,) bool.

    Shown (1) and undecided (-1) classes are correct, as the authors of ImageNet's multi-label annotations recommend
    (arXiv 2205.04596). With ReaL labels, which have no undecided classes, the mean is ReaL accuracy (arXiv 2006.07159).

    Args:
        predicted: (N,) class indices.
        targets: (N, K), 1, 0 or -1.
    """
    return np.asarray(targets[np.arange(len(targets)), predicted] != 0)


def class_mean(right: Mask, original: NDArray[np.integer]) -> float:
    """Return the accuracy, averaged over original classes; NaN without images.

    This is multi-label accuracy as published with "Evaluating Machine Accuracy on ImageNet" (Shankar et al., ICML
    2020): without the problematic images, the classes are not balanced.

    Args:
        right: (N,) bool, see `is_right`.
        original: (N,) original class; images with -1 are ignored.
    """
    known = original >= 0
    counts = np.bincount(original[known])
    hits = np.bincount(original[known], right[known])
    return float((hits[counts > 0] / counts[counts > 0]).mean()) if known.any() else float("nan")


def top_k(scores: Floats, k: int) -> Mask:
    """Return the k best classes of each image: (N, K) bool with k true per row. Ties go to the lower class index.

    Raises:
        EvaluationError: If k is not between 1 and K.
    """
    if not 1 <= k <= scores.shape[1]:
        raise EvaluationError(f"top-k: k is {k}; must be between 1 and {scores.shape[1]}, the number of classes")
    out = np.zeros(scores.shape, np.bool_)
    for start in range(0, len(scores), _ROWS):
        best = np.argsort(-scores[start : start + _ROWS], axis=1, kind="stable")[:, :k]
        np.put_along_axis(out[start : start + _ROWS], best, True, axis=1)
    return out


def thresholds_by_count(scores: Floats, counts: NDArray[np.integer]) -> Floats:
    """Return the threshold per class at which the number of predicted images equals the class's count: (K,).

    If the counts are the numbers of images that show the class, precision and recall are equal at these thresholds,
    except for ties. The quality there is what tuned thresholds can reach, not what to expect of thresholds tuned
    elsewhere. The code of arXiv 2603.05729 also uses the counts of original labels, which needs no multi-label
    annotation.

    Args:
        scores: (N, K) float.
        counts: (K,) numbers of images, 0 to N; 0 returns an infinite threshold.

    Raises:
        EvaluationError: If a score is not finite, or the counts have the wrong shape or range.
    """
    images, classes = checked_scores(scores).shape
    if counts.shape != (classes,) or (counts < 0).any() or (counts > images).any():
        raise EvaluationError(f"counts: must be {classes} numbers between 0 and {images}, one per class")
    out = np.full(classes, np.inf, scores.dtype)
    for k, (column,) in enumerate(columns(scores)):
        if counts[k]:
            out[k] = np.partition(column, images - counts[k])[images - counts[k]]
    return out


def decision_quality(predicted: Mask, targets: Targets) -> Averages:
    """Compute precision, recall and F1 of predicted classes.

    Undecided entries (-1) are ignored, whatever the prediction. Classes and images without positives count only in the
    micro average.

    Args:
        predicted: (N, K) bool.
        targets: (N, K), 1, 0 or -1.
    """
    shown, hits = targets == 1, predicted & (targets == 1)
    taken = predicted & (targets >= 0)
    sums = [[array.sum(axis=axis) for array in (hits, taken, shown)] for axis in (0, 1)]
    return Averages(
        _quality(*(per_class.sum(keepdims=True) for per_class in sums[0])), _quality(*sums[0]), _quality(*sums[1])
    )


def _quality(hits: NDArray[np.int64], taken: NDArray[np.int64], shown: NDArray[np.int64]) -> Quality:
    """Return the mean quality over the entries with positives; NaN without any."""
    some = shown > 0
    if not some.any():
        return Quality(*[float("nan")] * 3)
    hits, taken, shown = hits[some], taken[some], shown[some]
    precision, recall, f1 = hits / np.maximum(taken, 1), hits / shown, 2 * hits / (taken + shown)
    return Quality(float(precision.mean()), float(recall.mean()), float(f1.mean()))
