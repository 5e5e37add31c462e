"""Scores against the truth: are they probabilities, and do low scores find wrong original labels?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.evaluate.compare.bootstrap import Array, Measure, share
from mlimagenet_data.evaluate.compare.label_sets import Reading
from mlimagenet_data.evaluate.metrics.arrays import Mask
from mlimagenet_data.evaluate.metrics.calibration import Calibration, bins_of, calibration

__all__ = ["KINDS", "reliability", "score_measure", "weighted_auroc"]

KINDS = ("all", "original", "added")  # labels
_BINS = 15
Integers = NDArray[np.int64]


def reliability(readings: Sequence[Reading]) -> dict[str, Calibration]:
    """Return the calibration of the labels' scores, by kind of label; see `KINDS`."""
    _, scores, right, is_own = _flat(readings)
    return {kind: calibration(scores[of], right[of], _BINS) for kind, of in _kinds(is_own).items()}


def score_measure(readings: Sequence[Reading]) -> Measure:
    """Return the measure of the scores.

    Figures: `ece`, `ece_original`, `ece_added`, the expected calibration error of all labels, the original ones and the
    added ones; `wrong_auroc`, how well 1 - score of the original label ranks originals that are not valid above valid
    ones (an original that is not a label scores 0); `wrong_not_best`, the share of originals that are not valid whose
    image has another best label, or none.
    """
    image, scores, right, is_own = _flat(readings)
    bins = bins_of(scores, _BINS)
    tables = {
        kind: np.stack([
            _table(image[of], bins[of], values[of], len(readings)) for values in (np.ones(len(scores)), scores, right)
        ])
        for kind, of in _kinds(is_own).items()
    }  # fmt: skip
    known = np.array([reading.original is not None for reading in readings], np.float64)
    wrong = np.array([reading.original not in reading.valid for reading in readings], np.float64) * known
    not_best = np.array([_has_other_best(reading) for reading in readings], np.float64) * wrong
    doubt = 1 - np.array([dict(reading.labels).get(-1 if (k := reading.original) is None else k, 0.0)
                          for reading in readings])  # fmt: skip

    def measure(weights: Array) -> dict[str, Array]:
        errors = {"ece" if kind == "all" else f"ece_{kind}": _error(weights, table) for kind, table in tables.items()}
        return {
            **errors,
            "wrong_auroc": weighted_auroc(doubt, wrong > 0, weights * known),
            "wrong_not_best": share(weights @ not_best, weights @ wrong),
        }

    return measure


def weighted_auroc(scores: Array, positive: Mask, weights: Array) -> Array:
    """Return the area under the ROC curve of weighted items: the chance that a positive scores higher; ties count half.

    Args:
        scores: (N,).
        positive: (N,) bool.
        weights: (D, N), not negative.

    Returns:
        (D,), NaN without positives or without negatives.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    weights = weights[:, order]
    for_positives, for_negatives = (
        np.add.reduceat(weights * mask[order], starts, axis=1) for mask in (positive, ~positive)
    )
    below = np.cumsum(for_negatives, axis=1) - for_negatives
    area = (for_positives * (below + for_negatives / 2)).sum(axis=1)
    return share(area, for_positives.sum(axis=1) * for_negatives.sum(axis=1))


def _flat(readings: Sequence[Reading]) -> tuple[Integers, Array, Mask, Mask]:
    """Return all labels: their image, score, whether they are valid, whether they are the original one."""
    rows = [(image, score, index in reading.valid, index == reading.original)
            for image, reading in enumerate(readings) for index, score in reading.labels]  # fmt: skip
    table = np.array(rows, np.float64).reshape(-1, 4)
    return table[:, 0].astype(np.int64), table[:, 1], table[:, 2] > 0, table[:, 3] > 0


def _kinds(is_own: Mask) -> dict[str, Mask]:
    return dict(zip(KINDS, (np.ones_like(is_own), is_own, ~is_own), strict=True))


def _table(image: Integers, bins: Integers, values: Array | Mask, images: int) -> Array:
    """Return the sum of values for each image and bin: (N, bins)."""
    place = image * _BINS + bins
    return np.bincount(place, values, images * _BINS).reshape(images, _BINS).astype(np.float64)


def _error(weights: Array, table: Array) -> Array:
    """Return the expected calibration error of each draw from (3, N, bins) counts, sums of scores, sums of right."""
    counts, scores, right = (weights @ part for part in table)
    return share(np.abs(scores - right).sum(axis=1), counts.sum(axis=1))


def _has_other_best(reading: Reading) -> bool:
    if reading.is_missing:
        return False
    return not reading.labels or reading.labels[0][0] != reading.original
