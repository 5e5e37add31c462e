"""Checks that all metrics share: finite scores (N, K), and targets of the same shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.errors import EvaluationError

__all__ = ["Floats", "Mask", "Targets", "checked_scores", "checked_targets", "columns", "known_mean"]

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
Targets = NDArray[np.int8]  # 1: the image shows the class; 0: it does not; -1: undecided, ignored
_BLOCK = 32  # classes to copy at a time: 6.4 MB for 50,000 float32 scores
_ROWS = 4096  # images to check at a time


def known_mean(values: Floats | Mask) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def checked_scores(scores: Floats) -> Floats:
    """Return the scores unchanged if they are finite floats (N, K).

    Raises:
        EvaluationError: If shape or type is wrong, or a score is NaN or infinite; the message names row and class.
    """
    if scores.ndim != 2 or not np.issubdtype(scores.dtype, np.floating):
        raise EvaluationError(f"scores: {scores.dtype} {scores.shape}; must be floats of shape (images, classes)")
    for start in range(0, len(scores), _ROWS):
        good = np.isfinite(scores[start : start + _ROWS])
        if not good.all():
            row, k = (int(i) for i in np.argwhere(~good)[0])
            raise EvaluationError(f"scores: {scores[start + row, k]} in row {start + row}, class {k}; must be finite")
    return scores


def checked_targets(targets: NDArray[Any], scores: Floats) -> Targets:
    """Return the targets as int8 if they have the shape of the scores.

    Raises:
        EvaluationError: If the shapes differ, or a value is not 1, 0 or -1.
    """
    if targets.shape != scores.shape:
        raise EvaluationError(f"targets: shape {targets.shape}; must equal the scores' shape {scores.shape}")
    for start in range(0, len(targets), _ROWS):
        part = targets[start : start + _ROWS]
        good = np.isin(part, (-1, 0, 1))
        if not good.all():
            row, k = (int(i) for i in np.argwhere(~good)[0])
            raise EvaluationError(f"targets: {part[row, k]} in row {start + row}, class {k}; must be 1, 0 or -1")
    return targets.astype(np.int8, copy=False)


def columns(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield matching columns of (N, K) arrays as contiguous copies, made a block at a time."""
    for start in range(0, arrays[0].shape[1], _BLOCK):
        blocks = [np.ascontiguousarray(array[:, start : start + _BLOCK].T) for array in arrays]
        yield from zip(*blocks, strict=True)
