"""The memory-mapped index of annotations: built once from Parquet files, then shared read-only by all processes.

An index is a folder of raw little-endian arrays and `index.json` with their lengths. It holds what training needs: masks as
the ends of their runs, labels, scores, sizes, names. Everything that a file says is checked while the index is built, since
it may come from a stranger; what is read from an index was checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.masks import MAX_CELLS, parse_runs
from mlimagenet_data.schema import STATUSES

__all__ = ["COLUMNS", "Index", "cache_folder", "open_index", "source_key"]

_VERSION = 1
COLUMNS = ["image_id", "file_name", "label", "height", "width", "labels", "scores", "regions", "status"]
STATUS_NAMES = tuple(STATUSES)
_BATCH_ROWS = 20_000
_FOOTER_BYTES = 1 << 16
_MOST_SIDE = 1 << 16  # of a mask, so that rows and columns fit two bytes

# name: (type, what it is counted by)
_ARRAYS = {
    "height": "<i4",  # of each image; 0 where the file could not be read
    "width": "<i4",
    "original": "<i2",  # -1 where there is none
    "status": "u1",  # position in STATUS_NAMES
    "region_start": "<i8",  # where each image's regions begin, and the last one's end
    "label_start": "<i8",
    "label_class": "<i2",
    "label_score": "<f4",
    "grid": "<i4",  # (gh, gw) of each region's mask
    "cells": "<i4",  # number of cells in each region's mask
    "run_start": "<i8",
    "run_column": "<u2",  # the cell after each run's last; columns first, background first, an even number a region
    "run_row": "<u2",
    "topk_start": "<i8",
    "topk_class": "<i2",
    "topk_score": "<f4",
    "region_class": "<i2",
    "region_score": "<f4",
    "name_start": "<i8",
    "name": "u1",
    "id_start": "<i8",
    "id": "u1",
    "id_hash": "<u8",  # sorted
    "id_row": "<i4",  # the row of each hash
}


@dataclass(frozen=True)
class Index:
    """Memory-mapped arrays, by name; see `_ARRAYS`."""

    folder: Path
    arrays: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.arrays["height"])


def cache_folder() -> Path:
    """Return where indices are kept: $MLIMAGENET_CACHE, else `mlimagenet` in $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("MLIMAGENET_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlimagenet"


def source_key(files: Sequence[Path]) -> str:
    """Return a hash of Parquet files: their names, sizes, modification times and footers.

    A footer holds the offset, size and statistics of every column chunk.
    """
    digest = hashlib.sha256(json.dumps([_VERSION, _ARRAYS]).encode())
    for file in files:
        with open(file, "rb") as opened:
            info = os.fstat(opened.fileno())
            opened.seek(max(0, info.st_size - _FOOTER_BYTES))
            digest.update(f"{file.name} {info.st_size} {info.st_mtime_ns} ".encode() + opened.read())
    return digest.hexdigest()[:32]


def open_index(files: Sequence[Path], cache: Path | None = None) -> Index:
    """Open the index of Parquet files, building it first where it is not there. Safe when many processes do so at once.

    Raises:
        AnnotationError: If a file cannot be read or breaks the schema; the message names file, row and field.
    """
    key = source_key(files)
    folder = (cache or cache_folder()) / key
    if not (folder / "index.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            if not (folder / "index.json").exists():
                _build(files, folder)
    return _map(folder)


def _map(folder: Path) -> Index:
    lengths = json.loads((folder / "index.json").read_text(encoding="utf-8"))["lengths"]
    arrays = {}
    for name, kind in _ARRAYS.items():
        path = folder / f"{name}.bin"
        empty = not lengths[name]  # an empty file cannot be mapped
        array = np.zeros(0, kind) if empty else np.asarray(np.memmap(path, kind, "r", shape=(lengths[name],)))
        arrays[name] = array.reshape(-1, 2) if name == "grid" else array
    return Index(folder, arrays)


def _build(files: Sequence[Path], folder: Path) -> None:
    """Write an index to a temporary folder and rename it; what an interrupted build left is removed first."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    writer = _Writer(temporary)
    try:
        for file in files:
            for first_row, batch in _batches(file):
                _add(writer, batch, _Place(file, first_row))
        writer.finish()
    except BaseException:
        writer.close()
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


class _Writer:
    """Appends to the arrays' files; starts (`..._start`) are made from counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: open(folder / f"{name}.bin", "wb") for name in _ARRAYS}  # noqa: SIM115
        self._lengths = dict.fromkeys(_ARRAYS, 0)
        self._ends = {name: 0 for name in _ARRAYS if name.endswith("_start")}
        self._hashes: list[NDArray[np.uint64]] = []
        for name in self._ends:
            self.append(name, np.zeros(1, np.int64))

    def append(self, name: str, values: NDArray[Any]) -> None:
        self._files[name].write(np.ascontiguousarray(values).astype(_ARRAYS[name], copy=False).tobytes())
        self._lengths[name] += values.size

    def append_counts(self, name: str, counts: NDArray[Any]) -> None:
        ends = self._ends[name] + np.cumsum(counts, dtype=np.int64)
        self.append(name, ends)
        self._ends[name] = int(ends[-1]) if len(ends) else self._ends[name]

    def append_hashes(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes.append(hashes)

    def finish(self) -> None:
        hashes = np.concatenate(self._hashes) if self._hashes else np.zeros(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        if (twice := np.flatnonzero(ordered[1:] == ordered[:-1])).size:
            rows = sorted(int(order[twice[0] + k]) for k in (0, 1))
            raise AnnotationError(f"rows {rows[0]} and {rows[1]} have the same image_id")
        self.append("id_hash", ordered)
        self.append("id_row", order)
        self.close()
        (self._folder / "index.json").write_text(
            json.dumps({"version": _VERSION, "lengths": self._lengths}), encoding="utf-8"
        )

    def close(self) -> None:
        for file in self._files.values():
            file.close()


@dataclass(frozen=True)
class _Place:
    """Where a batch comes from, for messages."""

    file: Path
    first_row: int

    def check(self, good: NDArray[np.bool_], row_of: NDArray[Any] | None, field: str, rule: str, values: Any) -> None:
        """Raise if any value is not good. `row_of` gives each value's row in the batch; None: the values are the rows'."""
        bad = np.flatnonzero(~good)
        if bad.size:
            row = int(bad[0] if row_of is None else row_of[bad[0]]) + self.first_row
            raise AnnotationError(f"{self.file}: row {row}, {field}: {values[int(bad[0])]!s} {rule}")


def _batches(file: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    try:
        parquet = pq.ParquetFile(file)
        if missing := set(COLUMNS) - set(parquet.schema_arrow.names):
            raise AnnotationError(f"{file}: columns {sorted(missing)} are missing")
        row = 0
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=COLUMNS):
            yield row, batch
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise AnnotationError(f"{file}: not a readable shard of this dataset: {error}") from error


def _add(writer: _Writer, batch: pa.RecordBatch, place: _Place) -> None:
    try:
        _add_images(writer, batch, place)
        _add_regions(writer, batch.column("regions"), place)
    except (pa.ArrowException, AttributeError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"{place.file}: a column does not have the type of schema version 1: {error!r}"
        ) from error


def _add_images(writer: _Writer, batch: pa.RecordBatch, place: _Place) -> None:
    height, width = _numbers(batch.column("height"), 0), _numbers(batch.column("width"), 0)
    readable = batch.column("height").is_valid().to_numpy(zero_copy_only=False)
    place.check(
        ~readable | ((height > 0) & (width > 0)),
        None,
        "height, width",
        "must be positive",
        np.stack([height, width], 1),
    )
    original = _numbers(batch.column("label"), -1)
    place.check(
        (original >= -1) & (original < NUM_CLASSES), None, "label", f"is no class of 0 to {NUM_CLASSES - 1}", original
    )
    status = batch.column("status").to_pylist()
    known = {name: number for number, name in enumerate(STATUS_NAMES)}
    codes = np.array([known.get(name, -1) for name in status], np.int16)
    place.check(codes >= 0, None, "status", f"is none of {', '.join(STATUS_NAMES)}", status)
    for name, values in (("height", height), ("width", width), ("original", original), ("status", codes)):
        writer.append(name, values)
    rows = np.arange(batch.num_rows)
    _add_ranked(writer, batch.column("labels"), batch.column("scores"), "label", rows, place, ("labels", "scores"))
    _add_strings(writer, batch, place)


def _add_strings(writer: _Writer, batch: pa.RecordBatch, place: _Place) -> None:
    names, ids = batch.column("file_name").to_pylist(), batch.column("image_id").to_pylist()
    place.check(
        np.array([_is_plain_path(n) for n in names], bool),
        None,
        "file_name",
        "is no plain path below the split folder",
        names,
    )
    place.check(np.array([bool(i) for i in ids], bool), None, "image_id", "is empty", ids)
    for name, texts in (("name", names), ("id", ids)):
        raw = [text.encode() for text in texts]
        writer.append_counts(f"{name}_start", np.array([len(r) for r in raw], np.int64))
        writer.append(name, np.frombuffer(b"".join(raw), np.uint8))
    writer.append_hashes(np.array([id_hash(text) for text in ids], np.uint64))


def id_hash(image_id: str) -> int:
    """Return the 64-bit hash by which an image_id is found."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "little")


def _is_plain_path(name: str | None) -> bool:
    if not name or name.startswith("/") or "\\" in name or "\0" in name:
        return False
    parts = name.split("/")
    return ":" not in parts[0] and not {"", ".", ".."} & set(parts)


def _add_regions(writer: _Writer, column: pa.ListArray, place: _Place) -> None:
    counts = _numbers(pc.list_value_length(column), 0)
    regions = column.flatten()
    row_of = np.repeat(np.arange(len(counts)), counts)
    writer.append_counts("region_start", counts)
    label, score = _numbers(regions.field("label"), -1), _floats(regions.field("score"))
    _check_classes(label, row_of, "regions.label", place)
    _check_scores(score, row_of, "regions.score", place)
    writer.append("region_class", label)
    writer.append("region_score", score)
    _add_ranked(writer, regions.field("topk_labels"), regions.field("topk_scores"), "topk", row_of, place,
                ("regions.topk_labels", "regions.topk_scores"))  # fmt: skip
    _add_masks(writer, regions.field("mask"), row_of, place)


def _add_masks(writer: _Writer, masks: pa.StructArray, row_of: NDArray[Any], place: _Place) -> None:
    sizes = masks.field("size")
    lengths = _numbers(pc.list_value_length(sizes), 0)
    place.check(lengths == 2, row_of, "regions.mask.size", "numbers, two are needed", lengths)
    grid = _numbers(sizes.flatten(), 0).reshape(-1, 2)
    cells = grid[:, 0] * grid[:, 1]
    place.check(
        ((grid > 0) & (grid < _MOST_SIDE)).all(axis=1) & (cells <= MAX_CELLS),
        row_of,
        "regions.mask.size",
        f"must be positive and below {_MOST_SIDE}, with at most {MAX_CELLS} cells",
        grid,
    )
    strings = masks.field("counts")
    raw = strings.cast(pa.large_binary())
    offsets = np.frombuffer(raw.buffers()[1], np.int64)[raw.offset : raw.offset + len(raw) + 1]
    data = np.frombuffer(raw.buffers()[2] or b"", np.uint8)
    place.check(np.diff(offsets) > 0, row_of, "regions.mask.counts", "is empty", strings)
    runs, counts, good = parse_runs(data[offsets[0] : offsets[-1]], offsets - offsets[0], cells)
    place.check(good, row_of, "regions.mask.counts", "is no run-length code of a mask of that size", strings)
    writer.append("grid", grid)
    writer.append("cells", _object_cells(runs, counts))
    even, even_counts = _padded_to_even(runs, counts)
    first = np.cumsum(cells) - cells  # all masks' cells lie one behind the other
    ends = np.cumsum(even) - np.repeat(first, even_counts)
    columns, rows = np.divmod(ends, np.repeat(grid[:, 0], even_counts))
    writer.append("run_column", columns)
    writer.append("run_row", rows)
    writer.append_counts("run_start", even_counts)


def _object_cells(runs: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of every second run of each region."""
    starts = np.cumsum(counts) - counts
    is_object = ((np.arange(runs.size) - np.repeat(starts, counts)) & 1).astype(bool)
    sums = np.concatenate(([0], np.cumsum(np.where(is_object, runs, 0))))
    return np.asarray(sums[starts + counts] - sums[starts])


def _padded_to_even(runs: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add a run of 0 where a region has an odd number, so that the regions of an image can be decoded in one go."""
    even = counts + (counts & 1)
    starts, ends = np.cumsum(even) - even, np.cumsum(counts)
    out = np.zeros(int(even.sum()), np.int64)
    out[np.arange(runs.size) + np.repeat(starts - (ends - counts), counts)] = runs
    return out, even


def _add_ranked(
    writer: _Writer, classes: Any, scores: Any, name: str, row_of: NDArray[Any], place: _Place, fields: tuple[str, str]
) -> None:
    """Append two parallel lists of classes and scores; `row_of` gives the row of each list."""
    lengths, others = _numbers(pc.list_value_length(classes), 0), _numbers(pc.list_value_length(scores), 0)
    place.check(lengths == others, row_of, fields[0], f"classes, but another number of {fields[1]}", lengths)
    values, numbers = _numbers(classes.flatten(), -1), _floats(scores.flatten())
    rows = np.repeat(row_of, lengths)
    _check_classes(values, rows, fields[0], place)
    _check_scores(numbers, rows, fields[1], place)
    writer.append_counts(f"{name}_start", lengths)
    writer.append(f"{name}_class", values)
    writer.append(f"{name}_score", numbers)


def _check_classes(values: NDArray[np.int64], rows: NDArray[Any], field: str, place: _Place) -> None:
    place.check((values >= 0) & (values < NUM_CLASSES), rows, field, f"is no class of 0 to {NUM_CLASSES - 1}", values)


def _check_scores(values: NDArray[np.float64], rows: NDArray[Any], field: str, place: _Place) -> None:
    place.check((values > 0) & (values <= 1), rows, field, "is no score in (0, 1]", values)  # false for NaN, too


def _numbers(array: Any, null: int) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.cast(array, pa.int64()), null).to_numpy(zero_copy_only=False))


def _floats(array: Any) -> NDArray[np.float64]:
    return np.asarray(pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False))
