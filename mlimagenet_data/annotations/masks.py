"""Binary masks in compressed COCO run-length encoding (RLE).

pycocotools (`maskApi.c`) defines the format: runs alternate between background and object in column-major order,
background first. Each run is a variable-length number of 6-bit characters; the fourth and later runs are stored as the
difference from the run two before. pycocotools encodes our masks. This module decodes them, because pycocotools' C
decoder trusts the counts in a file from a stranger.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.errors import AnnotationError

__all__ = ["MAX_CELLS", "bounds_of_runs", "decode_mask", "encode_mask", "parse_counts", "parse_runs", "stretch_mask"]

MAX_CELLS = 1 << 26  # masks larger than 8192 x 8192 are refused before memory is allocated
_MOST_CHARACTERS = 6  # per run: 30 bits and a sign hold any run of up to MAX_CELLS cells


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Return the compressed RLE counts of a (gh, gw) bool mask, as encoded by pycocotools."""
    from pycocotools import mask as coco_mask

    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"mask: got a {mask.ndim}-d {mask.dtype} array; it must be a 2-d bool array")
    counts: bytes = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return counts.decode("ascii")


def parse_runs(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], cells: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Parse the counts of many masks at once.

    Args:
        data: The concatenated characters of all masks.
        offsets: (M + 1,) start of each mask's characters, then the end of the last one; each mask has at least one
            character.
        cells: (M,) number of cells that each mask's runs must add up to.

    Returns:
        runs: All run lengths, background first in each mask.
        counts: (M,) number of runs per mask.
        good: (M,) whether a mask is valid: its characters are legal, no number is truncated or too long, no run is
            negative, and the runs add up. Ignore the runs of invalid masks.
    """
    good = np.ones(len(cells), np.bool_)
    if not len(cells):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), good
    codes = data - np.uint8(48)  # legal ones are below 64
    if codes.max() > 63:
        good &= ~_any(codes > 63, offsets)
    is_last = codes < 32  # a character without the continuation bit ends its number
    good &= is_last[offsets[1:] - 1]
    is_last[offsets[1:] - 1] = True  # a damaged mask must not run into the next one
    ends = np.flatnonzero(is_last)
    lengths = np.empty_like(ends)
    lengths[0] = ends[0] + 1
    np.subtract(ends[1:], ends[:-1], out=lengths[1:])
    counts = np.diff(np.searchsorted(ends, offsets - 1, side="right"))
    first = np.cumsum(counts) - counts
    if lengths.max() > _MOST_CHARACTERS:
        good &= ~_any(lengths > _MOST_CHARACTERS, np.append(first, ends.size))
    runs = _undo_differences(_numbers_of(codes, ends, np.minimum(lengths, _MOST_CHARACTERS)), counts, first)
    if runs.min() < 0:
        good &= ~_any(runs < 0, np.append(first, ends.size))
    good &= np.add.reduceat(runs, first) == cells
    return runs, counts, good


def _numbers_of(codes: NDArray[np.uint8], ends: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers whose last characters are at `ends`: five bits a character, the lowest first, the last signed."""
    last = codes[ends]  # bytes as long as possible: most of the time goes into memory
    last &= 31
    last ^= 16
    last -= 16
    numbers = last.view(np.int8).astype(np.int64)
    longer = np.flatnonzero(lengths > 1)  # few
    numbers[longer] <<= 5 * (lengths[longer] - 1)
    for before in range(1, _MOST_CHARACTERS):
        longer = longer[lengths[longer] > before]
        digits = (codes[ends[longer] - before] & 31).astype(np.int64)
        numbers[longer] += digits << (5 * (lengths[longer] - 1 - before))
    return numbers


def _any(flags: NDArray[np.bool_], bounds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether any flag is set in each non-empty segment between bounds."""
    return np.logical_or.reduceat(flags, bounds[:-1])


def _undo_differences(
    runs: NDArray[np.int64], counts: NDArray[np.int64], first: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Undo COCO's delta coding: each mask's runs from the fourth on are stored minus the run two positions earlier.

    Runs 1 and 2, 3 and 4, ... of a mask are laid out as rows of two after a row of zeros. Their sums down the columns are
    the runs. Run 0 stands for itself.
    """
    rows = counts // 2 + 1
    start = np.cumsum(rows) - rows
    places = np.arange(runs.size) + np.repeat(2 * start + 1 - first, counts)
    sums = np.zeros((int(rows.sum()), 2), np.int64)
    sums.reshape(-1)[places] = runs
    sums[start] = 0
    np.cumsum(sums, axis=0, out=sums)
    sums -= np.repeat(sums[start], rows, axis=0)
    out = sums.reshape(-1)[places]
    out[first] = runs[first]
    return out


def parse_counts(counts: str | bytes, cells: int) -> NDArray[np.int64]:
    """Return the run lengths, background first, of an RLE that must describe exactly `cells` cells.

    Raises:
        AnnotationError: If a character is outside the alphabet, a number is truncated or too long, a run is negative,
            or the runs do not add up to `cells`.
    """
    raw = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
    offsets, expected = np.array([0, len(raw)]), np.array([cells])
    if raw:
        runs, _, good = parse_runs(np.frombuffer(raw, np.uint8), offsets, expected)
        if good[0]:
            return runs
    shown = raw if len(raw) <= 24 else raw[:24] + b"..."
    raise AnnotationError(f"RLE counts {shown!r} are invalid; the run lengths must add up to the mask's {cells} cells")


def bounds_of_runs(runs: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """Return the half-open bounds (top, left, bottom, right) of a mask's object cells; zeros if there are none.

    Args:
        runs: Run lengths returned by `parse_counts`.
        height: Number of rows of the mask.
    """
    ends = np.cumsum(runs)
    is_object = (np.arange(runs.size) & 1).astype(np.bool_) & (runs > 0)
    first, last = (ends - runs)[is_object], ends[is_object] - 1
    if not first.size:
        return (0, 0, 0, 0)
    left, right = int(first[0]) // height, int(last[-1]) // height + 1
    if (first // height != last // height).any():  # a run crosses from the bottom of one column to the top of the next
        return (0, left, height, right)
    return (int((first % height).min()), left, int((last % height).max()) + 1, right)


def decode_mask(size: tuple[int, int], counts: str | bytes) -> NDArray[np.bool_]:
    """Return the (gh, gw) bool mask of compressed COCO RLE `counts`.

    Raises:
        AnnotationError: If the size is not positive or exceeds `MAX_CELLS`, or the counts do not fit it.
    """
    height, width = size
    if height <= 0 or width <= 0 or height * width > MAX_CELLS:
        raise AnnotationError(
            f"mask size {height} x {width} is out of range; both must be positive and the product at most {MAX_CELLS}"
        )
    runs = parse_counts(counts, height * width)
    flat = np.repeat((np.arange(runs.size) & 1).astype(np.bool_), runs)
    return flat.reshape(width, height).T


def stretch_mask(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Stretch a (gh, gw) mask to (height, width), column-major, by the dataset's nearest-neighbour rule."""
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    return np.asarray(mask.T[:, rows][columns].T)  # copies whole columns: 20 times faster than indexing both at once
