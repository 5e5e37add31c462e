"""Convert run lengths from other files to the schema's mask columns."""

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
        grid: The grid that the mask was stretched from, if known. The mask is shrunk back to it.

    Raises:
        AnnotationError: If the counts do not describe a mask of that size, or the mask was not stretched from that
            grid. The counts are checked before they are decoded.
    """
    height, width = size
    if height * width > MAX_CELLS:
        raise AnnotationError(f"describes {height} x {width} cells; a mask must have at most {MAX_CELLS}")
    if isinstance(counts, list):
        counts = _compressed(size, counts)
    if not isinstance(counts, str):
        raise AnnotationError("must be text or a list of integers")
    try:
        runs = parse_counts(counts, height * width)
    except AnnotationError as error:
        raise AnnotationError(f"is not a mask of {height} x {width} cells: {error}") from error
    if grid is not None:
        mask = shrunk_mask(decode_mask(size, counts), grid)
        (height, width), counts = grid, encode_mask(mask)
        runs = parse_counts(counts, height * width)
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
        raise AnnotationError(f"must be run lengths that add up to {cells} cells")
    code: bytes = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
    return code.decode("ascii")


def shrunk_mask(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Undo `stretch_mask`: return the mask on its original grid.

    Args:
        mask: (H, W), stretched.
        grid: (gh, gw), at most (H, W).

    Raises:
        AnnotationError: If the mask was not stretched from that grid.
    """
    (height, width), (rows, columns) = mask.shape, grid
    if rows <= height and columns <= width:
        first_row = -(-np.arange(rows) * height // rows)  # the first pixel of each cell
        first_column = -(-np.arange(columns) * width // columns)
        small = mask[first_row[:, None], first_column[None]]
        if (stretch_mask(small, height, width) == mask).all():
            return np.asarray(small)
    raise AnnotationError(f"is not a {rows} x {columns} mask stretched to {height} x {width}")
