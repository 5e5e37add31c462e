"""Whether a confidence of 0.8 is right 8 times in 10: expected calibration error, and what a reliability diagram shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.arrays import Floats, Mask

__all__ = ["Calibration", "calibration"]


class Calibration(NamedTuple):
    """Confidences in bins of equal width.

    Attributes:
        error: Expected calibration error, in [0, 1]; NaN without predictions.
        counts: (bins,) predictions in each bin.
        confidence: (bins,) their mean confidence, NaN where there are none.
        accuracy: (bins,) the share of them that is right, NaN where there are none.
    """

    error: float
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def calibration(confidence: Floats, right: Mask, bins: int = 15) -> Calibration:
    """Return the expected calibration error: the mean difference of confidence and accuracy, over the bins, by their counts.

    Bins and number of them follow Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599): ((b - 1)/B, b/B],
    and 0 in the first.

    Args:
        confidence: (N,) in [0, 1].
        right: (N,) bool.
        bins: Number of bins, 1 or more.

    Raises:
        EvaluationError: If a confidence is not in [0, 1]; the message says which.
    """
    bad = np.flatnonzero(~((confidence >= 0) & (confidence <= 1)))
    if bad.size:
        raise EvaluationError(f"confidence: {confidence[bad[0]]} in row {bad[0]}; it must be a probability")
    place = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    total = max(len(place), 1)
    sums = [np.bincount(place, values, bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (values / counts for values in sums)
    error = float(np.abs(sums[0] - sums[1]).sum() / total) if len(place) else float("nan")
    return Calibration(error, counts, mean_confidence, accuracy)
