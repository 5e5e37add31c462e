"""Slow reference versions of the loader's shares and targets, independent of its fast paths."""

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.views.boxes import Box, cell_overlap, resample_matrix


def slow_shares(mask, box):
    """Return the visibility and coverage of a mask in a box of cells (top, left, bottom, right), cell by cell."""
    top, left, bottom, right = map(float, box)
    high = [max(0.0, min(r + 1, bottom) - max(r, top)) for r in range(mask.shape[0])]
    wide = [max(0.0, min(c + 1, right) - max(c, left)) for c in range(mask.shape[1])]
    shown = sum(high[r] * wide[c] for r, c in np.argwhere(mask).tolist())
    area = (bottom - top) * (right - left)
    return shown / mask.sum() if mask.any() else 0.0, shown / area


def slow_box_shares(record, box):
    """Return the visibility and coverage of each region in a box of pixels (top, left, height, width)."""
    edges = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    return [slow_shares(r.mask, edges * np.tile(np.array(r.mask.shape) / record.size, 2)) for r in record.regions]


def slow_visible_area(record, box):
    """Return the share of the image that a box of pixels (top, left, height, width) shows."""
    return slow_shares(np.ones((1, 1), bool), np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
                       / np.tile(record.size, 2))[0]  # fmt: skip


def slow_target(record, policy, shares, visible_area=0.0):
    """Return the classes present by LabelPolicy's definition: the original label `unless_gone` or `as_others` only, and
    without the rule for empty views."""
    present = set()
    for index, _ in record.labels:
        is_main = index == record.label and policy.original == "unless_gone"
        scores = {k: dict(r.topk)[index] for k, r in enumerate(record.regions) if index in dict(r.topk)}
        if scores:
            chosen = [k for k, s in scores.items() if s >= policy.min_score] or [max(scores, key=scores.get)]
            if is_main:
                chosen = [k for k in chosen if 2 * scores[k] >= max(scores.values())]
            seen = [shares[k] for k in chosen]
        elif policy.unlocated == "spread":
            seen = [(visible_area, 0.0)]
        else:
            seen = [(1.0, 1.0)] if policy.unlocated == "keep" else [(0.0, 0.0)]
        least = (policy.absent_visibility, policy.absent_coverage) if is_main else (policy.visibility, policy.coverage)
        enough = (lambda a, b: a > b) if is_main else (lambda a, b: a >= b)
        if any(enough(visible, least[0]) or enough(covered, least[1]) for visible, covered in seen):
            present.add(index)
    return present


def visible_cells(mask: NDArray[np.bool_], box: Box) -> float:
    """Return the area, in cells, of a (gh, gw) mask inside a box given as fractions of the image."""
    height, width = mask.shape
    rows = cell_overlap(box.top * height, box.bottom * height, height)
    columns = cell_overlap(box.left * width, box.right * width, width)
    return float(rows @ mask @ columns)


def region_shares(mask: NDArray[np.bool_], visible: Box, view_area: float) -> tuple[float, float]:
    """Return (visibility, coverage) of a region in a view.

    Args:
        mask: (gh, gw) bool.
        visible: The part of the image that the view shows, as fractions of the image.
        view_area: The area of the whole view, padding included, as a share of the image's area.

    Returns:
        visibility: visible area / region area; 0 for an empty mask.
        coverage: visible area / view area; 0 for an empty view.
    """
    shown = visible_cells(mask, visible)
    area = int(mask.sum())
    visibility = shown / area if area else 0.0
    coverage = shown / (mask.size * view_area) if view_area > 0 else 0.0
    return visibility, coverage


def resample_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each cell of a grid of `size` (h, w) that a (gh, gw) mask covers: (h, w), in [0, 1].

    Exact areas, no interpolation: the sum over cells keeps the mask's share of the image.
    """
    rows = resample_matrix(mask.shape[0], size[0])
    columns = resample_matrix(mask.shape[1], size[1])
    return np.asarray(np.clip(rows @ mask @ columns.T, 0.0, 1.0))
