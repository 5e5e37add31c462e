"""Exact area arithmetic of axis-aligned boxes on mask grids. Pure NumPy, float64.

A mask of gh x gw cells covers the whole image: cell (r, c) spans (r/gh, c/gw) to ((r+1)/gh, (c+1)/gw).
A box is (top, left, bottom, right) as fractions of the image's height and width. It is half-open and may be empty.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "cell_edges", "cell_overlap", "resample_matrix"]


class Box(NamedTuple):
    """A rectangle (top, left, bottom, right), as fractions of the image's height and width unless stated otherwise."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def area(self) -> float:
        """Return height times width; 0 for an empty box."""
        return max(self.bottom - self.top, 0.0) * max(self.right - self.left, 0.0)

    def intersect(self, other: Box) -> Box:
        """Return the intersection; its area is 0 if the boxes are disjoint."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )


def cell_overlap(start: float, stop: float, cells: int) -> NDArray[np.float64]:
    """Return the share of each of `cells` unit cells [i, i+1) covered by the interval [start, stop): (cells,)."""
    clipped = np.minimum(np.maximum(cell_edges(cells), start), max(start, stop))
    return np.asarray(clipped[1:] - clipped[:-1])


@functools.lru_cache(maxsize=64)
def cell_edges(cells: int) -> NDArray[np.float64]:
    """Return the edges of `cells` unit cells: 0.0, 1.0, ..., `cells`, read-only."""
    edges = np.arange(cells + 1, dtype=np.float64)
    edges.setflags(write=False)
    return edges


@functools.lru_cache(maxsize=256)
def resample_matrix(source: int, target: int) -> NDArray[np.float64]:
    """Return (target, source): the share of each target cell's length covered by each source cell; rows sum to 1."""
    scale = source / target
    rows = np.stack([cell_overlap(i * scale, (i + 1) * scale, source) for i in range(target)])
    matrix: NDArray[np.float64] = rows / rows.sum(axis=1, keepdims=True)
    matrix.setflags(write=False)
    return matrix
