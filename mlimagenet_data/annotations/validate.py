"""Read annotations from Parquet and check every value, because the files may come from a stranger."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlimagenet_data.annotations.masks import MAX_CELLS, parse_runs
from mlimagenet_data.annotations.packing import HEADER, STATUS_NAMES
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.parquet import read_batches
from mlimagenet_data.names import is_plain_path, join_key

__all__ = ["COLUMNS", "ValidatedRows", "check_batch", "checked_batches", "id_hash", "raw_batches"]

COLUMNS = ["image_id", "file_name", "label", "height", "width", "labels", "scores", "regions", "status"]
_MOST_SIDE = 1 << 16  # of a mask, so that rows and columns fit in two bytes
_MOST_ITEMS = 1 << 16  # labels or regions per image
_BATCH_ROWS = 2000  # what they hold stays in a processor's caches, which halves the time
_MOST_THREADS = 4  # more only wait for each other
_MOST_SHOWN = 200  # characters of a value in a message
_MOST_IN_BYTE = 255
_TOO_MANY = f"exceeds the limit of {_MOST_ITEMS - 1} per image"


@dataclass(frozen=True)
class ValidatedRows:
    """Checked rows.

    Attributes:
        header: (N,) of dtype HEADER.
        arrays: The values of all rows, keyed by the names in LAYOUT.
        hashes: (N,) uint64, `id_hash` of the image_ids.
        keys: (N,) uint64, `id_hash` of their join keys.
    """

    header: NDArray[Any]
    arrays: dict[str, NDArray[Any]]
    hashes: NDArray[np.uint64]
    keys: NDArray[np.uint64]


@dataclass(frozen=True)
class _Place:
    """Origin of a batch, for error messages."""

    file: Path
    first_row: int

    def check(self, good: NDArray[np.bool_], row_of: NDArray[Any] | None, field: str, rule: str, values: Any) -> None:
        """Raise unless all values are good. `row_of` holds the batch row per value; None means one value per row."""
        bad = np.flatnonzero(~good)
        if bad.size:
            row = int(bad[0] if row_of is None else row_of[bad[0]]) + self.first_row
            text = str(values[int(bad[0])])
            shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
            raise AnnotationError(f"{self.file}: row {row}, {field}: {shown} {rule}")


def checked_batches(file: Path) -> Iterator[ValidatedRows]:
    """Yield the checked rows of a Parquet file in batches.

    Raises:
        AnnotationError: If the file cannot be read or breaks the schema; the message names file, row and field.
    """
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    ahead: deque[Future[ValidatedRows]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for first_row, batch in raw_batches(file):
            ahead.append(pool.submit(check_batch, batch, file, first_row))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def check_batch(batch: pa.RecordBatch, file: Path, first_row: int) -> ValidatedRows:
    """Check rows from `raw_batches`.

    Raises:
        AnnotationError: If a row breaks the schema; the message names file, row and field.
    """
    try:
        return _check(batch, _Place(file, first_row))
    except UnicodeDecodeError as error:
        rows = f"rows {first_row} to {first_row + batch.num_rows - 1}"
        raise AnnotationError(f"{file}: {rows}: text is not valid UTF-8: {error}") from error
    except (pa.ArrowException, AttributeError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"{file}: a column does not have the type that schema version 1 requires: {error!r}"
        ) from error


def raw_batches(file: Path, rows: int = _BATCH_ROWS) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield a Parquet file in batches, each with the number of its first row; only the columns' names are checked.

    Raises:
        AnnotationError: As `mlimagenet_data.files.parquet.read_batches`.
    """
    return read_batches(file, COLUMNS, rows)


def _check(batch: pa.RecordBatch, place: _Place) -> ValidatedRows:
    header = np.zeros(batch.num_rows, HEADER)
    arrays: dict[str, NDArray[Any]] = {}
    _check_images(batch, header, arrays, place)
    hashes, keys = _check_strings(batch, header, arrays, place)
    _check_regions(batch.column("regions"), header, arrays, place)
    return ValidatedRows(header, arrays, hashes, keys)


def _check_images(batch: pa.RecordBatch, header: NDArray[Any], arrays: dict[str, Any], place: _Place) -> None:
    height, width = _numbers(batch.column("height"), 0), _numbers(batch.column("width"), 0)
    readable = batch.column("height").is_valid().to_numpy(zero_copy_only=False)
    good = ~readable | ((height > 0) & (width > 0) & (height < 1 << 31) & (width < 1 << 31))
    place.check(
        good,
        None,
        "height, width",
        "is out of range; both must be between 1 and 2147483647",
        np.stack([height, width], 1),
    )
    original = _numbers(batch.column("label"), -1)
    good = (original >= -1) & (original < NUM_CLASSES)
    place.check(good, None, "label", f"is out of range; it must be between 0 and {NUM_CLASSES - 1}", original)
    status = batch.column("status").to_pylist()
    known = {name: number for number, name in enumerate(STATUS_NAMES)}
    codes = np.array([known.get(name, -1) for name in status], np.int16)
    place.check(codes >= 0, None, "status", f"is unknown; it must be one of {', '.join(STATUS_NAMES)}", status)
    rows = np.arange(batch.num_rows)
    lengths = _check_ranked(
        batch.column("labels"), batch.column("scores"), "label", rows, arrays, place, ("labels", "scores")
    )
    place.check(lengths < _MOST_ITEMS, None, "labels", _TOO_MANY, lengths)
    values = {"height": height, "width": width, "original": original, "status": codes, "labels": lengths}
    for name, column in values.items():
        header[name] = column


def _check_strings(
    batch: pa.RecordBatch, header: NDArray[Any], arrays: dict[str, Any], place: _Place
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    names, ids = batch.column("file_name").to_pylist(), batch.column("image_id").to_pylist()
    good = np.array([is_plain_path(name) for name in names], bool)
    place.check(good, None, "file_name", "is invalid; it must be a relative path inside the split folder", names)
    place.check(
        np.array([bool(i) and len(i) < 10_000 for i in ids], bool),
        None,
        "image_id",
        "is empty or too long; it must have 1 to 9999 characters",
        ids,
    )
    for name, texts in (("name", names), ("id", ids)):
        raw = [text.encode() for text in texts]
        header[name] = [len(r) for r in raw]
        arrays[name] = np.frombuffer(b"".join(raw), np.uint8)
    hashes = np.array([id_hash(text) for text in ids], np.uint64)
    return hashes, np.array([id_hash(join_key(text)) for text in ids], np.uint64)


def id_hash(image_id: str) -> int:
    """Return the 64-bit hash of an image_id or a join key."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "little")


def _check_regions(column: pa.ListArray, header: NDArray[Any], arrays: dict[str, Any], place: _Place) -> None:
    counts = _numbers(pc.list_value_length(column), 0)
    place.check(counts < _MOST_ITEMS, None, "regions", _TOO_MANY, counts)
    header["regions"] = counts
    regions = column.flatten()
    row_of = np.repeat(np.arange(len(counts)), counts)
    label, score = _numbers(regions.field("label"), -1), _floats(regions.field("score"))
    _check_classes(label, row_of, "regions.label", place)
    _check_scores(score, row_of, "regions.score", place)
    arrays["best_class"], arrays["best_score"] = label, score
    fields = ("regions.topk_labels", "regions.topk_scores")
    topk = _check_ranked(
        regions.field("topk_labels"), regions.field("topk_scores"), "topk", row_of, arrays, place, fields
    )
    arrays["topk_of"] = topk
    header["topk"] = np.bincount(row_of, topk, len(counts))
    runs = _check_masks(regions.field("mask"), row_of, arrays, place)
    header["runs"] = np.bincount(row_of, runs, len(counts))


def _check_masks(
    masks: pa.StructArray, row_of: NDArray[Any], arrays: dict[str, Any], place: _Place
) -> NDArray[np.int64]:
    sizes = masks.field("size")
    lengths = _numbers(pc.list_value_length(sizes), 0)
    place.check(lengths == 2, row_of, "regions.mask.size", "numbers; it must hold exactly 2", lengths)
    grid = _numbers(sizes.flatten(), 0).reshape(-1, 2)
    cells = grid[:, 0] * grid[:, 1]
    good = ((grid > 0) & (grid < _MOST_SIDE)).all(axis=1) & (cells <= MAX_CELLS)
    rule = f"is out of range; both sides must be between 1 and {_MOST_SIDE - 1}, with at most {MAX_CELLS} cells"
    place.check(good, row_of, "regions.mask.size", rule, grid)
    strings = masks.field("counts")
    raw = strings.cast(pa.large_binary())
    offsets = np.frombuffer(raw.buffers()[1], np.int64)[raw.offset : raw.offset + len(raw) + 1]
    data = np.frombuffer(raw.buffers()[2] or b"", np.uint8)
    place.check(np.diff(offsets) > 0, row_of, "regions.mask.counts", "is empty; it must hold run lengths", strings)
    runs, counts, good = parse_runs(data[offsets[0] : offsets[-1]], offsets - offsets[0], cells)
    place.check(good, row_of, "regions.mask.counts", "is invalid; it must encode a mask of that size", strings)
    arrays["grid_height"], arrays["grid_width"] = grid[:, 0], grid[:, 1]
    runs, counts = _padded_to_even(runs, counts)
    starts = np.cumsum(counts) - counts
    arrays["cells"] = np.add.reduceat(runs[1::2], starts // 2) if len(counts) else counts
    arrays["run"], counts = _in_bytes(runs, counts)
    arrays["runs_of"] = counts
    return counts


def _padded_to_even(runs: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Append an empty run to regions with an odd number of runs, so that an image's regions can be decoded together."""
    even = counts + (counts & 1)
    padded: NDArray[np.int64] = np.insert(runs, np.cumsum(counts)[even > counts], 0)
    return padded, even


def _in_bytes(runs: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Split runs of more than 255 cells by empty runs of the other kind, and return the runs and their number per region."""
    large = np.flatnonzero(runs > _MOST_IN_BYTE)
    if not large.size:
        return runs.astype(np.uint8), counts
    pieces = (runs[large] - 1) // _MOST_IN_BYTE  # full ones, each followed by an empty run
    kept = runs.copy()
    kept[large] -= pieces * _MOST_IN_BYTE
    full = np.tile(np.array([_MOST_IN_BYTE, 0]), int(pieces.sum()))
    added = np.bincount(np.repeat(np.arange(len(counts)), counts)[large], 2 * pieces, len(counts)).astype(np.int64)
    split: NDArray[np.int64] = np.insert(kept, np.repeat(large, 2 * pieces), full)
    return split.astype(np.uint8), counts + added


def _check_ranked(
    classes: Any,
    scores: Any,
    name: str,
    row_of: NDArray[Any],
    arrays: dict[str, Any],
    place: _Place,
    fields: tuple[str, str],
) -> NDArray[np.int64]:
    """Check parallel lists of classes and scores, and return their lengths; `row_of` holds the row of each list."""
    lengths, others = _numbers(pc.list_value_length(classes), 0), _numbers(pc.list_value_length(scores), 0)
    place.check(
        lengths == others,
        row_of,
        fields[0],
        f"classes, but a different number of {fields[1]}; both must match",
        lengths,
    )
    values, numbers = _numbers(classes.flatten(), -1), _floats(scores.flatten())
    rows = np.repeat(row_of, lengths)
    _check_classes(values, rows, fields[0], place)
    _check_scores(numbers, rows, fields[1], place)
    arrays[f"{name}_class"], arrays[f"{name}_score"] = values, numbers
    return lengths


def _check_classes(values: NDArray[np.int64], rows: NDArray[Any], field: str, place: _Place) -> None:
    place.check(
        (values >= 0) & (values < NUM_CLASSES),
        rows,
        field,
        f"is out of range; it must be between 0 and {NUM_CLASSES - 1}",
        values,
    )


def _check_scores(values: NDArray[np.float64], rows: NDArray[Any], field: str, place: _Place) -> None:
    place.check(
        (values > 0) & (values <= 1), rows, field, "is out of range; it must be in (0, 1]", values
    )  # refuses NaN


def _numbers(array: Any, null: int) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.cast(array, pa.int64()), null).to_numpy(zero_copy_only=False))


def _floats(array: Any) -> NDArray[np.float64]:
    return np.asarray(pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False))
