"""Convex polygons in the plane: clipping, subtraction, and exact coverage of grid cells.

A polygon is a tuple of (x, y) vertices in order, clockwise or counterclockwise. Empty intersections are `()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Point", "Polygon", "area_of", "cell_cover", "clip", "contains", "half", "subtract"]

Point = tuple[float, float]
Polygon = tuple[Point, ...]


def signed_area(polygon: Polygon) -> float:
    """Return the area, positive or negative by orientation (shoelace formula)."""
    following = (*polygon[1:], polygon[0]) if polygon else ()
    return 0.5 * sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, following, strict=True))


def area_of(polygon: Polygon) -> float:
    """Return the area."""
    return abs(signed_area(polygon))


def half(polygon: Polygon, line: tuple[float, float, float]) -> Polygon:
    """Return the part of a polygon where a * x + b * y + c >= 0 for the line (a, b, c) (Sutherland and Hodgman)."""
    heights = [line[0] * x + line[1] * y + line[2] for x, y in polygon]
    out: list[Point] = []
    for k, (x, y) in enumerate(polygon):
        height, next_height = heights[k], heights[(k + 1) % len(polygon)]
        if height >= 0:
            out.append((x, y))
        if (height > 0 > next_height) or (height < 0 < next_height):
            share = height / (height - next_height)
            next_x, next_y = polygon[(k + 1) % len(polygon)]
            out.append((x + share * (next_x - x), y + share * (next_y - y)))
    return tuple(out) if len(out) >= 3 else ()


def _half(polygon: Polygon, start: Point, stop: Point, side: float) -> Polygon:
    """Return the part of a polygon on side 1.0 or -1.0 of the line from start to stop."""
    dx, dy = side * (stop[0] - start[0]), side * (stop[1] - start[1])
    return half(polygon, (-dy, dx, dy * start[0] - dx * start[1]))


def _edges(polygon: Polygon) -> Iterable[tuple[Point, Point, float]]:
    """Yield each edge with the side of the polygon's interior."""
    side = 1.0 if signed_area(polygon) >= 0 else -1.0
    for k, start in enumerate(polygon):
        yield start, polygon[(k + 1) % len(polygon)], side


def clip(polygon: Polygon, window: Polygon) -> Polygon:
    """Return the intersection of two convex polygons."""
    for start, stop, side in _edges(window):
        if not polygon:
            break
        polygon = _half(polygon, start, stop, side)
    return polygon


def contains(polygon: Polygon, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each point is inside a convex polygon or on its edge; x and y must have the same shape."""
    inside = np.ones(np.shape(x), np.bool_)
    for (x0, y0), (x1, y1), side in _edges(polygon):
        inside &= side * ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) >= 0
    return inside


def subtract(polygon: Polygon, hole: Polygon) -> list[Polygon]:
    """Return a convex polygon minus another one, as disjoint convex polygons."""
    if area_of(hole) == 0.0:
        return [polygon]
    pieces = []
    for start, stop, side in _edges(hole):
        outside = _half(polygon, start, stop, -side)
        if outside and area_of(outside) > 0.0:
            pieces.append(outside)
        polygon = _half(polygon, start, stop, side)
        if not polygon:
            break
    return pieces


def cell_cover(polygons: Sequence[Polygon], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each unit cell covered by disjoint polygons: (h, w), in [0, 1], exact up to float rounding.

    Each edge is split at grid lines. Every piece adds its signed area to its cell and its height to all cells to its
    right; a running sum along the rows completes the latter. Font rasterisers compute exact coverage this way.

    Args:
        polygons: In cell units, x to the right and y down. Parts outside the grid do not count.
        size: (h, w) of the grid.
    """
    height, width = size
    frame: Polygon = ((0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height)))
    sums = np.zeros((height, width + 2))
    for polygon in polygons:
        inside = clip(polygon, frame)
        if inside and signed_area(inside) < 0:
            inside = inside[::-1]
        for k, start in enumerate(inside):
            _add_edge(sums, start, inside[(k + 1) % len(inside)])
    return np.asarray(np.clip(np.cumsum(sums, axis=1)[:, :width], 0.0, 1.0))


def _add_edge(sums: NDArray[np.float64], start: Point, stop: Point) -> None:
    (x0, y0), (x1, y1) = start, stop
    if y0 == y1:
        return
    height, width = sums.shape[0], sums.shape[1] - 2
    at = np.unique(np.concatenate(([0.0, 1.0], _crossings(x0, x1), _crossings(y0, y1))))
    xs, ys = x0 + at * (x1 - x0), y0 + at * (y1 - y0)
    middle_x, middle_y, falls = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2, np.diff(ys)
    rows = np.clip(np.floor(middle_y).astype(np.intp), 0, height - 1)
    columns = np.clip(np.floor(middle_x).astype(np.intp), 0, width)
    right = middle_x - columns  # share of the cell to the left of the edge
    # with the polygon's vertices in this order, a falling edge has the interior on its left
    np.add.at(sums, (rows, columns), -falls * (1.0 - right))
    np.add.at(sums, (rows, columns + 1), -falls * right)


def _crossings(start: float, stop: float) -> NDArray[np.float64]:
    """Return the positions in (0, 1) at which a coordinate moving from start to stop is an integer."""
    low, high = min(start, stop), max(start, stop)
    lines = np.arange(np.ceil(low), np.floor(high) + 1)
    if start == stop or not lines.size:
        return np.zeros(0)
    shares = (lines - start) / (stop - start)
    return np.asarray(shares[(shares > 0.0) & (shares < 1.0)])
