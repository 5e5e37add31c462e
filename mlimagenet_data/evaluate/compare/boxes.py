"""Regions against boxes of the original class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.evaluate.compare.bootstrap import Array, Measure, additive, share

__all__ = ["box_iou", "box_measure", "region_boxes"]

_HIT = 0.5  # IoU


def box_measure(boxes: Sequence[Array], records: Iterable[Record | None], originals: Sequence[int | None]) -> Measure:
    """Return the measure of regions against boxes.

    Figures, the first two over images with boxes: `corloc`, the share with a region whose box has an IoU of at least 0.5
    with one of the boxes; `loc_named`, the same for the best-scoring region that is named the original class;
    `regions_per_image`.

    Args:
        boxes: For each image, (B, 4), x0, y0, x1, y1 as shares.
        records: The images' annotations, None for images that the dataset lacks.
        originals: The images' original classes.
    """
    rows = [_counts(*image) for image in zip(boxes, records, originals, strict=True)]
    return additive(np.array(rows, np.float64).reshape(-1, 5), _figures)


def _counts(boxes: Array, record: Record | None, original: int | None) -> list[float]:
    boxed = float(len(boxes) > 0)
    if record is None:
        return [boxed, 0, 0, 0, 1]
    if not boxed or not record.best:
        return [boxed, 0, 0, len(record.best), 1]
    best = box_iou(region_boxes(record), boxes).max(axis=1).tolist()
    named = [(score, iou) for (index, score), iou in zip(record.best, best, strict=True) if index == original]
    return [boxed, max(best) >= _HIT, bool(named) and max(named)[1] >= _HIT, len(best), 1]


def _figures(sums: Array) -> dict[str, Array]:
    boxed, found, named, regions, images = sums.T
    return {
        "corloc": share(found, boxed),
        "loc_named": share(named, boxed),
        "regions_per_image": share(regions, images),
    }


def region_boxes(record: Record) -> Array:
    """Return the bounds of the regions' masks: (R, 4), x0, y0, x1, y1 as shares; zeros for empty masks."""
    out = np.zeros((len(record.best), 4))
    for stack in record.stacks:
        height, width = stack.grid
        for k, mask in zip(stack.regions, stack.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if rows.size:
                out[k] = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return out


def box_iou(one: NDArray[np.floating], other: NDArray[np.floating]) -> Array:
    """Return the intersection over union of (R, 4) and (B, 4) boxes: (R, B); 0 for boxes without area."""
    first, last = (
        pick(one[:, None, at], other[None, :, at]) for pick, at in ((np.maximum, slice(2)), (np.minimum, slice(2, 4)))
    )
    shared = np.clip(last - first, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.where(shared > 0, shared / np.where(union > 0, union, 1), 0.0)
