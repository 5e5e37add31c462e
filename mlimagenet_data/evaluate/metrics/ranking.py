"""Exact average precision (AP): unbinned, with ties as one threshold, as in scikit-learn.

AP of a class (or an image) is the sum over thresholds of precision times the gain in recall. Only positives raise
recall, so AP is the mean, over the positives, of the precision at each one's score. This needs two sorts and no running
sums.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.evaluate.metrics.arrays import Floats, Mask, Targets, checked_scores, checked_targets, columns

__all__ = ["average_precision", "class_average_precision", "sample_average_precision"]


def average_precision(scores: Floats, positive: Mask) -> float:
    """Return the average precision of a ranking, in [0, 1]; NaN without positives.

    Args:
        scores: (N,) finite.
        positive: (N,).
    """
    found = np.sort(scores[positive])
    if not found.size:
        return float("nan")
    ranked = np.sort(scores)
    hits = found.size - np.searchsorted(found, found, "left")  # positives that score at least as much
    taken = ranked.size - np.searchsorted(ranked, found, "left")
    return float(np.mean(hits / taken))


def class_average_precision(scores: Floats, targets: Targets) -> NDArray[np.float64]:
    """Return the average precision of each class over the images: (K,) float64.

    Classes without positives are NaN, so that `np.nanmean` ignores them. timm counts them as 0; so does scikit-learn,
    with a warning.

    Args:
        scores: (N, K) float, larger for likelier classes.
        targets: (N, K), 1 (shown), 0 (not shown) or -1 (undecided, ignored).

    Raises:
        EvaluationError: If a score is not finite, or the arrays do not match.
    """
    targets = checked_targets(targets, checked_scores(scores))
    pairs = columns(scores, targets)
    return np.array([_decided(s, t) for s, t in pairs], np.float64)


def sample_average_precision(scores: Floats, targets: Targets) -> NDArray[np.float64]:
    """Return the average precision of each image over the classes: (N,) float64, NaN without positives.

    Its mean equals scikit-learn's `average_precision_score(average="samples")` over the images with positives.

    Args:
        scores: (N, K) float.
        targets: (N, K), 1, 0 or -1.

    Raises:
        EvaluationError: As `class_average_precision`.
    """
    targets = checked_targets(targets, checked_scores(scores))
    return np.array([_decided(s, t) for s, t in zip(scores, targets, strict=True)], np.float64)


def _decided(scores: Floats, targets: Targets) -> float:
    decided = targets >= 0
    if not decided.all():
        scores, targets = scores[decided], targets[decided]
    return average_precision(scores, targets == 1)
