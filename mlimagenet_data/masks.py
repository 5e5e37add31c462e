"""Binary masks as compressed COCO run lengths (RLE).

The format's owner is pycocotools (`maskApi.c`): runs alternate from background to object in column-major order; each run is
a variable-length number of 6-bit characters, and from the fourth run on it is stored as the difference to the run two before.
pycocotools writes ours. Reading is done here, because its C decoder trusts the counts that a stranger's file declares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.errors import AnnotationError

__all__ = ["MAX_CELLS", "decode_mask", "encode_mask", "parse_counts"]

MAX_CELLS = 1 << 26  # a mask larger than 8192 x 8192 is refused before memory is taken
_MOST_CHARACTERS = 6  # of one run: 30 bits and a sign hold every run of MAX_CELLS cells


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Return the compressed RLE counts of a (gh, gw) bool mask, as pycocotools writes them."""
    from pycocotools import mask as coco_mask

    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is a 2-d bool array, got {mask.ndim}-d {mask.dtype}")
    counts: bytes = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return counts.decode("ascii")


def parse_counts(counts: str | bytes, cells: int) -> NDArray[np.int64]:
    """Return the run lengths, background first, of an RLE that must describe exactly `cells` cells.

    Raises:
        AnnotationError: If a character is outside the alphabet, a number is cut off or too long, a run is negative, or the
            runs do not add up to `cells`.
    """
    raw = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
    values = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not values.size or values.min() < 0 or values.max() > 63:
        raise AnnotationError(f"RLE counts {_short(raw)}: empty, or a character outside the range '0' to 'o'")
    ends = np.flatnonzero(values < 32)  # a character without the continuation bit ends its number
    if not ends.size or ends[-1] != values.size - 1:
        raise AnnotationError(f"RLE counts {_short(raw)}: the last number is cut off")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHARACTERS:
        raise AnnotationError(f"RLE counts {_short(raw)}: a number of {lengths.max()} characters, at most 6 are legal")
    shifts = 5 * (np.arange(values.size) - np.repeat(starts, lengths))
    runs: NDArray[np.int64] = np.add.reduceat((values & 31) << shifts, starts)
    runs -= np.where(values[ends] & 16, np.int64(1) << 5 * lengths, 0)  # sign extension
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0 or runs.sum() != cells:
        raise AnnotationError(
            f"RLE counts {_short(raw)}: runs sum to {runs.sum()} (least {runs.min()}), mask has {cells}"
        )
    return runs


def decode_mask(size: tuple[int, int], counts: str | bytes) -> NDArray[np.bool_]:
    """Return the (gh, gw) bool mask of compressed COCO RLE `counts`.

    Raises:
        AnnotationError: If the size is not positive or larger than `MAX_CELLS`, or the counts do not fit it.
    """
    height, width = size
    if height <= 0 or width <= 0 or height * width > MAX_CELLS:
        raise AnnotationError(f"mask size {height} x {width}: both must be positive and the product <= {MAX_CELLS}")
    runs = parse_counts(counts, height * width)
    flat = np.repeat((np.arange(runs.size) & 1).astype(np.bool_), runs)
    return flat.reshape(width, height).T


def _short(raw: bytes) -> str:
    return repr(raw if len(raw) <= 24 else raw[:24] + b"...")
