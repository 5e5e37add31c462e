"""A region's mask as the schema has it, from the run lengths of a stranger's file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.masks import (
    MAX_CELLS,
    bounds_of_runs,
    decode_mask,
    encode_mask,
    parse_counts,
    stretch_mask,
)
from mlimagenet_data.errors import AnnotationError

__all__ = ["mask_columns", "shrunk_mask"]


def mask_columns(size: tuple[int, int], counts: Any, grid: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the columns `mask`, `bbox` and `area` of a region.

    Args:
        size: (height, width) of the mask.
        counts: COCO RLE, compressed or a list of runs.
        grid: The grid that the mask was stretched from, if that is known: then the mask gets it back.

    Raises:
        AnnotationError: If the counts do not describe a mask of that size, or it was not stretched from that grid. Nothing is
            decoded before that is known.
    """
    height, width = size
    if height * width > MAX_CELLS:
        raise AnnotationError(f"is of a mask of {height} x {width} cells, {MAX_CELLS} at most are read")
    if isinstance(counts, list):
        counts = _compressed(size, counts)
    if not isinstance(counts, str):
        raise AnnotationError("is neither text nor a list of numbers")
    try:
        runs = parse_counts(counts, height * width)
        if grid is not None:
            mask = shrunk_mask(decode_mask(size, counts), grid)
            (height, width), counts = grid, encode_mask(mask)
            runs = parse_counts(counts, height * width)
    except AnnotationError as error:
        raise AnnotationError(f"is no mask of {height} x {width} cells: {error}") from error
    top, left, bottom, right = bounds_of_runs(runs, height)
    return {
        "mask": {"size": [height, width], "counts": counts},
        "bbox": [left / width, top / height, (right - left) / width, (bottom - top) / height],
        "area": int(runs[1::2].sum()) / (height * width),
    }


def _compressed(size: tuple[int, int], counts: list[Any]) -> str:
    from pycocotools import mask as coco_mask

    cells = size[0] * size[1]
    if not all(type(run) is int and 0 <= run <= cells for run in counts) or sum(counts) != cells:
        raise AnnotationError(f"are no run lengths that add up to {cells} cells")
    code: bytes = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
    return code.decode("ascii")


def shrunk_mask(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask on a grid, from that mask stretched by `stretch_mask`.

    Args:
        mask: (H, W).
        grid: (gh, gw), at most (H, W).

    Raises:
        AnnotationError: If the mask is not one of that grid, stretched.
    """
    (height, width), (rows, columns) = mask.shape, grid
    if rows <= height and columns <= width:
        first_row = -(-np.arange(rows) * height // rows)  # the first pixel that a cell is stretched to
        first_column = -(-np.arange(columns) * width // columns)
        small = mask[first_row[:, None], first_column[None]]
        if (stretch_mask(small, height, width) == mask).all():
            return np.asarray(small)
    raise AnnotationError(f"it is no mask of {rows} x {columns} cells, stretched to {height} x {width}")
