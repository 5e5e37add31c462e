"""Regions and labels against masks of objects.

Classes are compared as the truth names them: an ImageNet class that stands for no named class is not counted, nor is
an annotated class without ImageNet counterpart. Of an image, the 12 best labels with a score of at least 0.02 are
read, and the 10 best regions, because a list of all classes would find every object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.masks import stretch_mask
from mlimagenet_data.annotations.records import Record
from mlimagenet_data.evaluate.compare.bootstrap import Array, Measure, additive, share
from mlimagenet_data.evaluate.compare.matching import Side
from mlimagenet_data.evaluate.sets.truth import MaskImage, MaskTruth

__all__ = ["THRESHOLDS", "mask_label_measure", "mask_region_measure", "weighted_average_precision"]

THRESHOLDS = (0.1, 0.25, 0.5, 0.75)
_IOUS = np.arange(0.5, 0.96, 0.05)
_MOST_LABELS, _LEAST_SCORE, _MOST_REGIONS = 12, 0.02, 10
_LARGE, _SMALL = 0.05, 0.01  # areas of objects, as shares of the image
_FEWEST = 3  # images that show a class, for an average precision


def mask_region_measure(truth: MaskTruth, records: Iterable[Record | None]) -> Measure:
    """Return the measure of regions against masks.

    Figures: `regions_per_image`; over objects of at least 1% of the image, `best_iou_1pct`, the mean of each object's
    best IoU with a region, `recall_iou50`, the share with an IoU of at least 0.5, and `ar10`, the mean of that share
    over IoUs of 0.5 to 0.95; `best_iou_5pct`, over objects of at least 5%; `grounded`, of the regions named a class that
    the image shows, the share that lies on an object of that class (IoU of at least 0.5, or the region's centre is on
    it), and `grounded_of`, their number.
    """
    rows = [_region_counts(truth, *image) for image in zip(truth.images, records, strict=True)]
    return additive(np.array(rows, np.float64).reshape(-1, 10), _region_figures)


def _region_counts(truth: MaskTruth, image: MaskImage, record: Record | None) -> list[float]:
    regions = () if record is None else record.regions
    ranked = sorted(regions, key=lambda region: -region.score)[:_MOST_REGIONS]
    masks = [stretch_mask(region.mask, *image.size) for region in ranked]
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    objects = [item for item in image.objects if not item.is_crowd]
    hits = [truth.of_class[region.label] & _shown(truth, image) for region in ranked]
    grounded, centres = np.zeros(len(ranked), np.bool_), [_centre(mask) for mask in masks]
    best = np.zeros(len(objects))
    for k, item in enumerate(objects):  # one mask at a time: an image can have thousands
        mask = image.mask(item)
        area = int(np.count_nonzero(mask))
        for r, region in enumerate(masks):
            shared = int(np.count_nonzero(mask & region))
            iou = shared / max(area + areas[r] - shared, 1)
            best[k] = max(best[k], iou)
            if item.column >= 0 and hits[r][item.column] and areas[r]:
                grounded[r] |= iou >= 0.5 or bool(mask[centres[r]])
    named = np.array([hit.any() and area > 0 for hit, area in zip(hits, areas, strict=True)], np.bool_)
    shares = np.array([item.area for item in objects])
    small, large = best[shares >= _SMALL], best[shares >= _LARGE]
    recalls = (small[:, None] >= _IOUS).mean(axis=1).sum()
    return [
        1, len(regions), len(small), small.sum(), (small >= 0.5).sum(), recalls, len(large), large.sum(),
        named.sum(), grounded[named].sum(),
    ]  # fmt: skip


def _shown(truth: MaskTruth, image: MaskImage) -> NDArray[np.bool_]:
    """Return which named classes an image shows: (C,) bool."""
    out = np.zeros(len(truth.names), np.bool_)
    out[image.shown()] = True
    return out


def _centre(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel at the mean row and column of a mask; (0, 0) if it is empty."""
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    total = max(int(rows.sum()), 1)
    return int(rows @ np.arange(len(rows)) / total), int(columns @ np.arange(len(columns)) / total)


def _region_figures(sums: Array) -> dict[str, Array]:
    images, regions, small, small_iou, small_hits, recalls, large, large_iou, named, grounded = sums.T
    return {
        "regions_per_image": share(regions, images),
        "best_iou_5pct": share(large_iou, large),
        "best_iou_1pct": share(small_iou, small),
        "recall_iou50": share(small_hits, small),
        "ar10": share(recalls, small),
        "grounded": share(grounded, named),
        "grounded_of": named,
    }


def mask_label_measure(truth: MaskTruth, sides: Sequence[Side | None]) -> Measure:
    """Return the measure of labels against the classes of the masks.

    Figures: `map`, the mean average precision over classes that at least three images show (equal scores rank in the
    order of the images), and `map_classes`, their number; at each of `THRESHOLDS`, `precision@T`, `recall@T`, `f1@T`, and
    `multi_object@T`, of the images with two or more classes, the share in which at least two are found; `best_f1`, the
    best F1 of all thresholds.
    """
    shown = np.array([_shown(truth, image) for image in truth.images])
    scores, wrong = np.zeros(shown.shape), np.zeros((len(shown), len(THRESHOLDS)))
    for row, side in enumerate(sides):
        for index, score in _most(side or ()):
            columns = truth.of_class[index]
            scores[row, columns] = np.maximum(scores[row, columns], score)
            if columns.any() and not shown[row, columns].any():
                wrong[row] += score >= np.array(THRESHOLDS)
    counts = np.concatenate([_label_counts(shown, scores >= t, wrong[:, k]) for k, t in enumerate(THRESHOLDS)], axis=1)
    decisions = additive(counts, _decision_figures)
    columns = np.flatnonzero(shown.sum(axis=0) >= _FEWEST)

    def measure(weights: Array) -> dict[str, Array]:
        aps = [weighted_average_precision(scores[:, c], shown[:, c], weights) for c in columns]
        classes = np.full(len(weights), float(len(columns)))
        return {"map": _known_mean(aps, len(weights)), "map_classes": classes, **decisions(weights)}

    return measure


def _most(side: Side) -> Iterator[tuple[int, float]]:
    """Yield the labels that are read."""
    for index, score in sorted(side, key=lambda label: -label[1])[:_MOST_LABELS]:
        if score >= _LEAST_SCORE:
            yield index, score


def _label_counts(shown: NDArray[np.bool_], named: NDArray[np.bool_], wrong: Array) -> Array:
    """Return (N, 5): shown, named and right classes, whether two or more are right, whether two or more are shown."""
    total, right = shown.sum(axis=1), (shown & named).sum(axis=1)
    several = total >= 2
    return np.stack([total, right + wrong, right, several & (right >= 2), several], axis=1).astype(np.float64)


def _decision_figures(sums: Array) -> dict[str, Array]:
    out: dict[str, Array] = {}
    for k, threshold in enumerate(THRESHOLDS):
        total, named, right, found, several = sums[:, 5 * k : 5 * k + 5].T
        out[f"precision@{threshold}"] = right / np.maximum(named, 1)
        out[f"recall@{threshold}"] = right / np.maximum(total, 1)
        out[f"f1@{threshold}"] = 2 * right / np.maximum(total + named, 1)
        out[f"multi_object@{threshold}"] = share(found, several)
    return {"best_f1": np.max([out[f"f1@{threshold}"] for threshold in THRESHOLDS], axis=0), **out}


def weighted_average_precision(scores: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Return the average precision of a ranking in which each item stands several times in a row.

    Args:
        scores: (N,); equal scores rank in the order of the items.
        positive: (N,) bool.
        weights: (D, N) whole numbers: how often each item stands in the ranking.

    Returns:
        (D,), NaN without positives.
    """
    order = np.argsort(-scores, kind="stable")
    at = np.flatnonzero(positive[order])
    before = np.cumsum(weights[:, order], axis=1)[:, at]
    times = weights[:, order[at]]
    before, hits = before - times, np.cumsum(times, axis=1) - times
    total = np.zeros(len(weights))
    for k in range(1, int(times.max(initial=0)) + 1):  # the k-th of an item's copies
        total += np.where(times >= k, (hits + k) / (before + k), 0).sum(axis=1)
    return share(total, times.sum(axis=1))


def _known_mean(values: list[Array], draws: int) -> Array:
    """Return the mean over arrays (D,) of the values that are not NaN: (D,)."""
    table = np.array(values).reshape(-1, draws)
    known = ~np.isnan(table)
    return share(np.where(known, table, 0).sum(axis=0), known.sum(axis=0).astype(np.float64))
