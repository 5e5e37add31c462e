"""Calibration: expected calibration error, and the values of a reliability diagram."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.arrays import Floats, Mask

__all__ = ["Calibration", "bins_of", "calibration"]


class Calibration(NamedTuple):
    """Calibration in bins of equal width.

    Attributes:
        error: Expected calibration error, in [0, 1]; NaN without predictions.
        counts: (bins,) number of predictions per bin.
        confidence: (bins,) mean confidence per bin, NaN for empty bins.
        accuracy: (bins,) share of correct predictions per bin, NaN for empty bins.
    """

    error: float
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def calibration(confidence: Floats, right: Mask, bins: int = 15) -> Calibration:
    """Compute the expected calibration error: mean |confidence - accuracy| over the bins, weighted by count.

    Args:
        confidence: (N,) in [0, 1].
        right: (N,) bool, whether each prediction is correct.
        bins: Number of bins, at least 1.

    Raises:
        EvaluationError: If a confidence is not in [0, 1]; the message names its row.
    """
    place = bins_of(confidence, bins)
    counts = np.bincount(place, minlength=bins)
    total = max(len(place), 1)
    sums = [np.bincount(place, values, bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (values / counts for values in sums)
    error = float(np.abs(sums[0] - sums[1]).sum() / total) if len(place) else float("nan")
    return Calibration(error, counts, mean_confidence, accuracy)


def bins_of(confidence: Floats, bins: int = 15) -> NDArray[np.int64]:
    """Return the bin of each prediction: (N,), from 0.

    Bins follow Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599): ((b - 1)/B, b/B], with 0 in
    the first bin. So does the default number of bins.

    Args:
        confidence: (N,) in [0, 1].
        bins: Number of bins, at least 1.

    Raises:
        EvaluationError: If a confidence is not in [0, 1]; the message names its row.
    """
    bad = np.flatnonzero(~((confidence >= 0) & (confidence <= 1)))
    if bad.size:
        raise EvaluationError(f"confidence: {confidence[bad[0]]} in row {bad[0]}; must be a probability")
    return np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
