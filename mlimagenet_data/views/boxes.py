"""Exact area arithmetic of axis-aligned boxes on mask grids. Pure NumPy, float64.

A mask of gh x gw cells covers the whole image: cell (r, c) is the rectangle from (r/gh, c/gw) to ((r+1)/gh, (c+1)/gw) of it.
A box is (top, left, bottom, right) as fractions of the image's height and width; it is half-open and may be empty.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "cell_edges", "cell_overlap", "region_shares", "resample_mask", "resample_matrix", "visible_cells"]


class Box(NamedTuple):
    """A rectangle (top, left, bottom, right), as fractions of the image's height and width unless said otherwise."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def area(self) -> float:
        """Height times width; 0 for an empty box."""
        return max(self.bottom - self.top, 0.0) * max(self.right - self.left, 0.0)

    def intersect(self, other: Box) -> Box:
        """Return the common part; its area is 0 where there is none."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )


def cell_overlap(start: float, stop: float, cells: int) -> NDArray[np.float64]:
    """Return how much of each of `cells` unit cells [i, i+1) the interval [start, stop) covers: (cells,), in [0, 1]."""
    clipped = np.minimum(np.maximum(cell_edges(cells), start), max(start, stop))
    return np.asarray(clipped[1:] - clipped[:-1])


@functools.lru_cache(maxsize=64)
def cell_edges(cells: int) -> NDArray[np.float64]:
    """Return 0, 1, ..., cells as read-only floats."""
    edges = np.arange(cells + 1, dtype=np.float64)
    edges.setflags(write=False)
    return edges


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


@functools.lru_cache(maxsize=256)
def resample_matrix(source: int, target: int) -> NDArray[np.float64]:
    """Return (target, source): the share of each target cell's length that each source cell covers; rows sum to 1."""
    scale = source / target
    rows = np.stack([cell_overlap(i * scale, (i + 1) * scale, source) for i in range(target)])
    matrix: NDArray[np.float64] = rows / rows.sum(axis=1, keepdims=True)
    matrix.setflags(write=False)
    return matrix


def resample_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each cell of a grid of `size` (h, w) that a (gh, gw) mask covers: (h, w), in [0, 1].

    Exact areas, no interpolation: the sum over cells keeps the mask's share of the image.
    """
    rows = resample_matrix(mask.shape[0], size[0])
    columns = resample_matrix(mask.shape[1], size[1])
    return np.asarray(np.clip(rows @ mask @ columns.T, 0.0, 1.0))
