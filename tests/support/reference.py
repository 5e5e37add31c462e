"""The loader's shares and targets by the words of their definitions: slow, and owing nothing to its fast paths."""

import numpy as np


def slow_shares(mask, box):
    """Visibility and coverage of a mask in a box of cells (top, left, bottom, right), cell by cell."""
    top, left, bottom, right = map(float, box)
    high = [max(0.0, min(r + 1, bottom) - max(r, top)) for r in range(mask.shape[0])]
    wide = [max(0.0, min(c + 1, right) - max(c, left)) for c in range(mask.shape[1])]
    shown = sum(high[r] * wide[c] for r, c in np.argwhere(mask).tolist())
    area = (bottom - top) * (right - left)
    return shown / mask.sum() if mask.any() else 0.0, shown / area


def slow_box_shares(record, box):
    """Visibility and coverage of each region in a box of pixels (top, left, height, width)."""
    edges = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    return [slow_shares(r.mask, edges * np.tile(np.array(r.mask.shape) / record.size, 2)) for r in record.regions]


def slow_visible_area(record, box):
    """Share of the image that a box of pixels (top, left, height, width) shows."""
    return slow_shares(np.ones((1, 1), bool), np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
                       / np.tile(record.size, 2))[0]  # fmt: skip


def slow_target(record, policy, shares, visible_area=0.0):
    """The classes present, by the words of LabelPolicy; its rules for the original label and the empty view are left out."""
    present = set()
    for index, _ in record.labels:
        scores = {k: dict(r.topk)[index] for k, r in enumerate(record.regions) if index in dict(r.topk)}
        if not scores:
            if policy.unlocated == "keep" or (policy.unlocated == "spread" and visible_area >= policy.visibility):
                present.add(index)
            continue
        chosen = [k for k, s in scores.items() if s >= policy.min_score] or [max(scores, key=scores.get)]
        if any(shares[k][0] >= policy.visibility or shares[k][1] >= policy.coverage for k in chosen):
            present.add(index)
    return present
