"""Report: all metrics of predictions on a set."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.arrays import Floats, Mask, Targets, known_mean
from mlimagenet_data.evaluate.metrics.calibration import Calibration, calibration
from mlimagenet_data.evaluate.metrics.decisions import (
    Averages,
    Quality,
    class_mean,
    decision_quality,
    is_right,
    thresholds_by_count,
    top_k,
)
from mlimagenet_data.evaluate.metrics.ranking import class_average_precision, sample_average_precision
from mlimagenet_data.evaluate.predictions import read_rows
from mlimagenet_data.evaluate.sets.examples import EvaluationSet

__all__ = ["Classes", "Group", "Report", "evaluate"]


class Group(NamedTuple):
    """Figures of the images with a given number of valid labels.

    Attributes:
        images: Number of images.
        accuracy: Share of images whose best class is correct.
        map_samples: Average precision, mean over the images.
        f1: F1 at the threshold, mean over the images.
    """

    images: int
    accuracy: float
    map_samples: float
    f1: float


class Classes(NamedTuple):
    """Figures by class index; NaN for classes without positives and for classes that were not judged.

    Attributes:
        positives: (1000,) number of images that show the class.
        average_precision: (1000,).
        threshold: (1000,) probability at which the number of predicted images equals the number that show the class.
    """

    positives: NDArray[np.int64]
    average_precision: NDArray[np.float64]
    threshold: NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """Metrics; shares are in [0, 1], undefined values NaN.

    Attributes:
        data: Name of the set.
        images: Number of images in the set.
        unread: Number of images without a prediction; no metric includes them.
        skipped: Number of images that only top-1 and top-5 include, by reason.
        evaluated: Number of images that all metrics include.
        top1: Share of images whose original class scores best, among images with a known one.
        top5: Share of images whose original class is among the five best.
        accuracy: Share of images whose best class is valid or unclear; ReaL accuracy with ReaL labels.
        class_mean_accuracy: Mean of `accuracy` over original classes; multi-label accuracy as published.
        map: Mean average precision over the classes with positives.
        map_classes: Number of these classes.
        map_samples: Mean average precision over the images.
        threshold: Smallest probability of a predicted class in `at_threshold`.
        at_threshold: Precision, recall and F1 at this threshold.
        k: Number of predicted classes per image in `at_top_k`.
        at_top_k: Precision, recall and F1 of the k best classes.
        at_counts: Precision, recall and F1 at thresholds that predict each class as often as images show it.
        at_original_counts: Like `at_counts`, with the counts of original classes; NaN unless all of these are known.
        by_labels: Figures of images with 1, 2, 3, and 4 or more valid labels.
        calibration: Calibration of the best class's probability; a class is correct as in `accuracy`.
        per_class: Average precision and threshold of each class.
    """

    data: str
    images: int
    unread: int
    skipped: dict[str, int]
    evaluated: int
    top1: float
    top5: float
    accuracy: float
    class_mean_accuracy: float
    map: float
    map_classes: int
    map_samples: float
    threshold: float
    at_threshold: Averages
    k: int
    at_top_k: Averages
    at_counts: Averages
    at_original_counts: Averages
    by_labels: dict[str, Group]
    calibration: Calibration
    per_class: Classes

    def as_dict(self) -> dict[str, Any]:
        """Return all values in JSON types, None for NaN."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def evaluate(scores: Floats, data: EvaluationSet, *, threshold: float = 0.5, k: int = 1, bins: int = 15) -> Report:
    """Compute all metrics of probabilities on a set.

    Args:
        scores: (N, 1000) in [0, 1], in the set's order; NaN rows are images without a prediction.
        data: The set.
        threshold: Predict classes with at least this probability.
        k: Number of best classes to predict.
        bins: Number of calibration bins.

    Raises:
        EvaluationError: If the scores do not match the set, or no image can be evaluated.
    """
    if scores.shape != (len(data), len(data.judged)):
        raise EvaluationError(f"scores: {scores.shape}; the set needs shape ({len(data)}, {len(data.judged)})")
    read, original = read_rows(scores), data.original
    rows = np.flatnonzero(read & data.evaluated)
    if not rows.size:
        raise EvaluationError(
            f"{data.root}: no image can be evaluated: {np.sum(~read)} of {len(data)} have no prediction"
        )
    known = np.flatnonzero(read & (original >= 0))
    best = scores[known].argmax(axis=1)
    among = top_k(scores[known], 5)[np.arange(len(known)), original[known]]
    part, targets = scores[rows], data.targets(rows)
    if not data.judged.all():
        part, targets = part[:, data.judged], targets[:, data.judged]
    right = is_right(part.argmax(axis=1), targets)
    per_class, per_sample = class_average_precision(part, targets), sample_average_precision(part, targets)
    taken = part >= threshold
    counts = (targets == 1).sum(axis=0)
    thresholds = thresholds_by_count(part, counts)
    return Report(
        data.name, len(data), int((~read).sum()), dict(Counter(e.skipped for e in data.examples if e.skipped)), len(rows),
        known_mean(best == original[known]), known_mean(among), known_mean(right), class_mean(right, original[rows]),
        known_mean(per_class), int((~np.isnan(per_class)).sum()), known_mean(per_sample),
        threshold, decision_quality(taken, targets), k, decision_quality(top_k(part, k), targets),
        decision_quality(part >= thresholds, targets), _at_original_counts(part, targets, original[rows], data.judged),
        _by_labels(right, per_sample, taken, targets), calibration(part.max(axis=1), right, bins),
        _per_class(counts, per_class, thresholds, data.judged),
    )  # fmt: skip


def _at_original_counts(scores: Floats, targets: Targets, original: NDArray[np.int64], judged: Mask) -> Averages:
    if (original < 0).any():
        return Averages(*[Quality(*[float("nan")] * 3)] * 3)
    counts = np.bincount(original, minlength=len(judged))[judged]
    return decision_quality(scores >= thresholds_by_count(scores, counts), targets)


def _per_class(counts: NDArray[np.int64], precision: Floats, thresholds: Floats, judged: Mask) -> Classes:
    """Return figures of the judged classes, indexed by all classes."""
    out = Classes(np.zeros(len(judged), np.int64), *np.full((2, len(judged)), np.nan))
    out.positives[judged], out.average_precision[judged] = counts, precision
    out.threshold[judged] = np.where(counts > 0, thresholds, np.nan)
    return out


def _by_labels(right: Mask, per_sample: Floats, taken: Mask, targets: Targets) -> dict[str, Group]:
    counts = (targets == 1).sum(axis=1)
    groups = {"1": counts == 1, "2": counts == 2, "3": counts == 3, ">=4": counts >= 4}
    return {
        name: Group(
            int(of.sum()),
            known_mean(right[of]),
            known_mean(per_sample[of]),
            decision_quality(taken[of], targets[of]).samples.f1,
        )
        for name, of in groups.items()
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return None if isinstance(value, float) and math.isnan(value) else value
