"""Which regions train the labeler, and with which class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from build.records import RegionsRow

__all__ = ["ALIGNMENT", "aligned_groups", "merged"]

ALIGNMENT = ("label", "alignment", "clicked", "map_classes", "map_scores")  # columns that `aligned_groups` reads


def aligned_groups(row: RegionsRow, alignment: float, align_with: str) -> list[tuple[int, list[int]]]:
    """Return the classes that an image's regions train the labeler for, each with its regions.

    Args:
        row: The image, with the columns ALIGNMENT.
        alignment: The least probability of the class in the region.
        align_with: `original`: each region stands alone, and its class is the original label. `any`: the class is the label
            map's likeliest one, and regions of one class go together, as in the authors' scripts of arXiv 2603.05729.
            In both, a region that an annotator clicked has the original label, whatever its probability.
    """
    least = np.float32(alignment)
    groups: list[tuple[int, list[int]]] = []
    together: dict[int, list[int]] = {}
    for k, clicked in enumerate(row.clicked):
        own = _at_least(row.alignment[k], least)
        if row.label is not None and (clicked or (own and align_with == "original")):
            one: int | None = row.label
        else:
            one = row.map_classes[k] if align_with == "any" and _at_least(row.map_scores[k], least) else None
        if one is None:
            continue
        if align_with == "original":
            groups.append((one, [k]))
        else:
            together.setdefault(one, []).append(k)
    return groups or sorted(together.items())


def _at_least(score: float | None, least: np.float32) -> bool:
    return score is not None and bool(np.float32(score) >= least)


def merged(features: NDArray[np.float16], areas: NDArray[np.floating]) -> NDArray[np.float16]:
    """Return the features of several regions taken as one: the mean by area, or patches in proportion to area.

    Args:
        features: (R, V, D), or (R, V, S, D) for S patches, which are NaN where a region has fewer.
        areas: (R,), positive. Regions that overlap count twice where they do.

    Returns:
        (V, D) or (V, S, D).
    """
    if len(features) == 1:
        return np.asarray(features[0])
    shares = np.asarray(areas, np.float64) / np.sum(areas)
    if features.ndim == 3:
        return np.asarray(np.einsum("r,rvd->vd", shares, features.astype(np.float64)), np.float16)
    places = features.shape[2]
    ends = np.round(np.cumsum(shares) * places).astype(int)
    counts = np.diff(ends, prepend=0)
    parts = [one[:, :count] for one, count in zip(features, counts, strict=True)]  # the first patches are spread evenly
    return np.concatenate(parts, axis=1)
