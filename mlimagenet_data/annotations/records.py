"""Decode one image's annotations from its packed record."""

from __future__ import annotations

import functools
import itertools
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.packing import HEADER, LAYOUT, STATUS_NAMES

__all__ = ["NO_SIZE", "UNANNOTATED", "MaskStack", "Ranking", "Record", "RegionRecord", "decode_names", "decode_record"]

Ranking = tuple[tuple[int, float], ...]
_HEADER = struct.Struct("<" + "".join(HEADER[name].char for name in HEADER.names or ()))
# the arrays before the runs: name, struct's format character, header field that holds the length
_SMALL = tuple(
    (name, np.dtype(kind).char, field) for name, kind, field in LAYOUT if field in ("labels", "regions", "topk")
)
# status of the placeholder record of an image without annotations, which holds only the original label
UNANNOTATED = "unannotated"
NO_SIZE = (
    "image size unknown; pixel crops cannot be mapped. The image was unreadable when annotated, "
    "or the annotations were imported without --images"
)


class MaskStack(NamedTuple):
    """Masks of an image's regions that share a grid, as runs of cells.

    Runs alternate between background and object, column by column, background first, with an even number of runs per
    region; some are empty.

    Attributes:
        regions: Positions of these R regions among the image's regions.
        grid: (gh, gw).
        runs: (n,) lengths of the runs.
        runs_of: Number of each region's runs.
        cells: Number of object cells per mask.
    """

    regions: list[int]
    grid: tuple[int, int]
    runs: NDArray[np.uint8]
    runs_of: tuple[int, ...]
    cells: tuple[int, ...]

    @property
    def ends(self) -> NDArray[np.int64]:
        """The runs' ends: (n,), the number of cells up to each one's last, counted on from region to region."""
        return np.asarray(np.add.accumulate(self.runs, dtype=np.int64))

    @property
    def starts(self) -> list[int]:
        """The place of each region's first run, and of the end of all runs: R + 1 numbers."""
        return list(itertools.accumulate(self.runs_of, initial=0))

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Decoded masks: (R, gh, gw) bool."""
        (height, width), count = self.grid, len(self.regions)
        turns, ends = np.zeros(count * height * width + 1, np.int8), self.ends
        np.add.at(turns, ends[::2], 1)
        np.add.at(turns, ends[1::2], -1)
        flat = np.cumsum(turns[:-1], dtype=np.int8).astype(np.bool_)
        return flat.reshape(count, width, height).transpose(0, 2, 1)


class RegionRecord(NamedTuple):
    """One region of an image.

    Attributes:
        mask: (gh, gw) bool, on the patch grid, which covers the whole image.
        label: Best class.
        score: Score of that class, in (0, 1].
        topk: (class, score) pairs, best first.
    """

    mask: NDArray[np.bool_]
    label: int
    score: float
    topk: Ranking


class Record(NamedTuple):
    """One image's annotations.

    Attributes:
        image_id: Stable key, `<wnid>/<stem>`.
        file_name: Path below the split folder, `/`-separated.
        label: Original class; None if the image has none.
        size: (height, width) in pixels after EXIF orientation; None if the file could not be read or the annotations
            were imported without sizes.
        labels: (class, score) pairs of the image, best first.
        best: Best (class, score) per region.
        topk_of: Number of top-k classes per region.
        topk_class: The top-k classes, region by region, best first.
        topk_score: Scores of the top-k classes.
        stacks: The regions' masks, grouped by grid.
        status: One of `mlimagenet_data.annotations.schema.STATUSES`, or UNANNOTATED.
    """

    image_id: str
    file_name: str
    label: int | None
    size: tuple[int, int] | None
    labels: Ranking
    best: Ranking
    topk_of: tuple[int, ...]
    topk_class: tuple[int, ...]
    topk_score: tuple[float, ...]
    stacks: tuple[MaskStack, ...]
    status: str

    @property
    def topk(self) -> tuple[Ranking, ...]:
        """(class, score) pairs of each region, best first."""
        pairs = tuple(zip(self.topk_class, self.topk_score, strict=True))
        ends = itertools.accumulate(self.topk_of, initial=0)
        return tuple(pairs[start:stop] for start, stop in itertools.pairwise(ends))

    @property
    def regions(self) -> tuple[RegionRecord, ...]:
        """The regions with decoded masks."""
        masks = {k: mask for stack in self.stacks for k, mask in zip(stack.regions, stack.masks, strict=True)}
        return tuple(RegionRecord(masks[k], *self.best[k], topk) for k, topk in enumerate(self.topk))


def decode_record(raw: bytes) -> Record:
    """Decode a packed record."""
    height, width, original, status, labels, regions, name, image_id, topk, runs = _HEADER.unpack_from(raw)
    small, places = _small_arrays(labels, regions, topk)
    values = small.unpack_from(raw, _HEADER.size)
    (
        label_class,
        label_score,
        grid_h,
        grid_w,
        cells,
        runs_of,
        topk_of,
        best_class,
        best_score,
        topk_class,
        topk_score,
    ) = [values[place] for place in places]
    run_lengths = np.frombuffer(raw, np.uint8, runs, _HEADER.size + small.size)
    middle = _HEADER.size + small.size + runs + name
    return Record(
        raw[middle : middle + image_id].decode(),
        raw[middle - name : middle].decode(),
        None if original < 0 else original,
        (height, width) if height else None,
        tuple(zip(label_class, label_score, strict=True)),
        tuple(zip(best_class, best_score, strict=True)),
        topk_of,
        topk_class,
        topk_score,
        _stacks(grid_h, grid_w, cells, runs_of, run_lengths) if regions else (),
        STATUS_NAMES[status],
    )


def decode_names(raw: bytes) -> tuple[str, str]:
    """Return the image_id and file name of a packed record."""
    *_, labels, regions, name, image_id, topk, runs = _HEADER.unpack_from(raw)
    middle = _HEADER.size + _small_arrays(labels, regions, topk)[0].size + runs + name
    return raw[middle : middle + image_id].decode(), raw[middle - name : middle].decode()


@functools.lru_cache(maxsize=4096)
def _small_arrays(labels: int, regions: int, topk: int) -> tuple[struct.Struct, list[slice]]:
    """Return the struct of the arrays before the runs, and the slice of its values per array, in LAYOUT's order."""
    counts = {"labels": labels, "regions": regions, "topk": topk}
    lengths = [counts[field] for _, _, field in _SMALL]
    places = [slice(*edges) for edges in itertools.pairwise(itertools.accumulate(lengths, initial=0))]
    return struct.Struct("<" + "".join(f"{n}{char}" for n, (_, char, _) in zip(lengths, _SMALL, strict=True))), places


def _stacks(
    heights: tuple[int, ...],
    widths: tuple[int, ...],
    cells: tuple[int, ...],
    runs_of: tuple[int, ...],
    run_lengths: NDArray[np.uint8],
) -> tuple[MaskStack, ...]:
    count, grid = len(heights), (heights[0], widths[0])
    if heights.count(grid[0]) == widths.count(grid[1]) == count:
        return (MaskStack(list(range(count)), grid, run_lengths, runs_of, cells),)
    begins = list(itertools.accumulate(runs_of, initial=0))
    return tuple(
        MaskStack([k], grid, run_lengths[begins[k] : begins[k + 1]], runs_of[k : k + 1], cells[k : k + 1])
        for k, grid in enumerate(zip(heights, widths, strict=True))
    )
