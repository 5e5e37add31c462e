"""Visibility and coverage of regions in a view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.records import MaskStack
from mlimagenet_data.views.boxes import Box, cell_edges
from mlimagenet_data.views.view import View

__all__ = ["view_shares"]


def view_shares(stacks: Sequence[MaskStack], view: View) -> dict[int, tuple[float, float]]:
    """Return (visibility, coverage) of each region in a view: visible area / region area, visible area / view area.

    Args:
        stacks: The regions' masks.
        view: The view. If its visible part is a box, rows and columns are summed separately; otherwise cell by cell.
    """
    box, area = view.box, view.area
    out: dict[int, tuple[float, float]] = {}
    for stack in stacks:
        shown = _cells_in_box(stack, box) if box is not None else _cells_in_view(stack, view)
        view_cells = stack.grid[0] * stack.grid[1] * area
        for k, seen, total in zip(stack.regions, shown, stack.cells, strict=True):
            out[k] = (seen / total if total else 0.0, seen / view_cells if view_cells > 0 else 0.0)
    return out


def _cells_in_view(stack: MaskStack, view: View) -> list[float]:
    """Return the visible area, in cells, of each mask."""
    shown: list[float] = (stack.masks * view.cells(stack.grid)).sum(axis=(1, 2)).tolist()
    return shown


def _cells_in_box(stack: MaskStack, box: Box) -> list[float]:
    """Return the exact area, in cells, of each mask in a box of fractions, without decoding the masks.

    Let S(p) be the box's area within the first p cells, in column-major order. A run of cells from p to q then contains
    S(q) - S(p). S has a closed form: all columns before p's, plus the rows above p in its own column.
    """
    height, width = stack.grid
    top, bottom = box.top * height, max(box.top, box.bottom) * height
    left, right = box.left * width, max(box.left, box.right) * width
    before = _clipped(cell_edges(width + 1), left, right)  # per column: the box's width to its left
    here = before[1:] - before[:-1]
    before *= bottom - top
    above = _clipped(cell_edges(height), top, bottom)
    columns, rows = _places(stack)
    part = here.take(columns)
    part *= above.take(rows)
    part += before.take(columns)  # S at each run's end
    least = 1e-12 * (right - left) * (bottom - top)  # a mask outside the view leaves a rounding error
    pairs = [start // 2 for start in stack.starts[:-1]]
    shown: list[float] = np.add.reduceat(part[1::2] - part[::2], pairs).tolist()
    return [seen if seen > least else 0.0 for seen in shown]


def _places(stack: MaskStack) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the column and the row, in its own mask, of the cell after each run; the column after the last one at its end."""
    height, width = stack.grid
    ends = stack.ends
    columns = ends // height  # faster than divmod
    rows = ends - columns * height
    if len(stack.regions) > 1:
        columns -= np.arange(0, width * len(stack.regions), width).repeat(np.array(stack.runs_of))
    return columns, rows


def _clipped(edges: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return edges clipped to [low, high], minus low."""
    out = np.minimum(np.maximum(edges, low), high)
    out -= low
    return out
