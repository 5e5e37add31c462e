"""Read and write the paper's `multilabel_annotations.tsv`."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES, imagenet_classes
from mlimagenet_data.formats.faults import Faults, shortened
from mlimagenet_data.names import class_of_path, image_id_of, is_plain_path, join_key

__all__ = ["named", "ranked", "read_tsv", "unique", "write_tsv"]

_BLOCK_BYTES = 1 << 24
_MOST_LINE = 1 << 20  # bytes
_CLASS = "^[0-9]{1,4}$"
_SCORE = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


def read_tsv(file: Path, faults: Faults, advance: Callable[[int], object] = lambda size: None) -> Iterator[pa.Table]:
    """Yield tables of the columns `image_id`, `file_name`, `label`, `labels` and `scores`, in file order.

    File names are `n01440764_10026.JPEG`, or include a class folder (`n01440764/a.JPEG`, `0/a.JPEG`). A name without
    folders gets the folder of the original class. Labels are sorted by descending score. A score of 0 (0.0000: a small
    score rounded to four decimals) is not a label.

    Args:
        file: The TSV file.
        faults: Collects lines that are not UTF-8, have a wrong number of columns, hold an invalid name, class or score,
            name another class than their original class, or repeat a photograph.
        advance: Called with the number of bytes of each block read.

    Raises:
        AnnotationError: If a line is invalid and `faults` does not skip it; the message names file, line, field and
            value.
    """
    seen: dict[str, str] = {}
    first = 1
    for block in _blocks(file):
        lines = _lines(block, first, str(file), faults)
        first += block.count(b"\n")
        table = _columns(lines, str(file), faults)
        table = named(table, str(file), faults)
        table = _ranked(table, str(file), faults)
        yield unique(table, seen, str(file), faults)
        advance(len(block))


def _blocks(file: Path) -> Iterator[bytes]:
    """Yield blocks of whole lines, without a byte order mark; cut a line off where its length exceeds the limit."""
    rest = b""
    with open(file, "rb") as opened:
        if opened.read(len(BOM_UTF8)) != BOM_UTF8:
            opened.seek(0)
        while chunk := opened.read(_BLOCK_BYTES):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield rest + chunk[:end]
                rest = b""
            rest = (rest + chunk[end:])[: _MOST_LINE + 1]
    if rest:
        yield rest + b"\n"


def _lines(block: bytes, first: int, file: str, faults: Faults) -> pa.Table:
    """Return a table of `line` (line number) and `text`."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    offsets = np.concatenate(([0], ends + 1)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    texts = pa.Array.from_buffers(pa.binary(), len(ends), buffers)
    table = pa.table({"line": np.arange(first, first + len(ends)), "text": texts})
    table = faults.keep(table, np.diff(offsets) <= _MOST_LINE, file, "text", f"must have at most {_MOST_LINE} bytes")
    try:
        text = table["text"].cast(pa.string())
    except pa.ArrowInvalid:
        good = np.array([_is_utf8(raw) for raw in table["text"].to_pylist()], np.bool_)
        table = faults.keep(table, good, file, "text", "must be UTF-8")
        text = table["text"].cast(pa.string())
    return table.set_column(1, "text", pc.utf8_rtrim(text, characters="\r\n"))


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _columns(lines: pa.Table, file: str, faults: Faults) -> pa.Table:
    """Split lines at tabs and check the original class."""
    cells = pc.split_pattern(lines["text"], "\t")
    good = _array(pc.equal(pc.list_value_length(cells), 4))
    rule = "must have four tab-separated columns"
    lines = faults.keep(lines, good, file, "text", rule)
    flat = _flat(pc.split_pattern(lines["text"], "\t"))
    names = ("filename", "class", "classes", "scores")
    columns = {name: flat.take(pa.array(np.arange(k, len(flat), 4))) for k, name in enumerate(names)}
    table = pa.table({"line": lines["line"], **columns})
    rule = f"must be a class from 0 to {NUM_CLASSES - 1}"
    table = faults.keep(table, _array(pc.match_substring_regex(table["class"], _CLASS)), file, "class", rule)
    label = pc.cast(table["class"], pa.int64())
    good = _array(pc.less(label, NUM_CLASSES))
    table = faults.keep(table, good, file, "class", rule)
    return table.append_column("label", label.filter(pa.array(good)))


def named(table: pa.Table, file: str, faults: Faults) -> pa.Table:
    """Add `image_id` and `file_name` to rows with `line`, `filename` and `label`; drop those whose names are invalid."""
    good = np.array([is_plain_path(name) for name in table["filename"].to_pylist()], np.bool_)
    table = faults.keep(table, good, file, "filename", "must be a relative path inside the split folder")
    names, labels = table["filename"].to_pylist(), table["label"].to_pylist()
    told = [class_of_path(name) for name in names]
    good = np.array([found in (None, label) for found, label in zip(told, labels, strict=True)], np.bool_)
    table = faults.keep(table, good, file, "filename", "contradicts the class in the next column")
    names, labels = table["filename"].to_pylist(), table["label"].to_pylist()
    wnids = imagenet_classes().wnids
    paths = [name if "/" in name else f"{wnids[label]}/{name}" for name, label in zip(names, labels, strict=True)]
    ids = [image_id_of(name, label) for name, label in zip(names, labels, strict=True)]
    table = table.append_column("image_id", pa.array(ids, pa.string()))
    table = table.append_column("file_name", pa.array(paths, pa.string()))
    good = np.array([len(path) < 10_000 for path in paths], np.bool_)
    return faults.keep(table, good, file, "file_name", "must have fewer than 10,000 characters")


def _ranked(table: pa.Table, file: str, faults: Faults) -> pa.Table:
    """Parse the classes and scores into `labels` and `scores`, best first."""
    for name, pattern, rule in (
        ("classes", _CLASS, f"must hold only classes from 0 to {NUM_CLASSES - 1}"),
        ("scores", _SCORE, "must hold only numbers"),
    ):
        lists = _split(table[name])
        good = _array(pc.match_substring_regex(_flat(lists), pattern))
        table = faults.keep(table, _rows_of_good(_lengths(lists), good), file, name, rule)
    classes, scores = _split(table["classes"]), _split(table["scores"])
    good = _lengths(classes) == _lengths(scores)
    table = faults.keep(table, good, file, "classes", "and scores must have the same length")
    lengths = _lengths(_split(table["classes"]))
    values = _array(pc.cast(_flat(_split(table["classes"])), pa.int64()))
    numbers = _array(pc.cast(_flat(_split(table["scores"])), pa.float64()))
    return ranked(table, lengths, values, numbers, file, faults)


def ranked(
    table: pa.Table, lengths: NDArray[np.int64], values: NDArray[Any], numbers: NDArray[Any], file: str, faults: Faults
) -> pa.Table:
    """Add `labels` and `scores` to the rows whose classes and scores are valid, best first; drop the others.

    Args:
        table: N rows with `line`, `image_id`, `file_name`, `label`, and `classes` and `scores` for messages.
        lengths: (N,) classes of each row.
        values: All classes.
        numbers: All scores.
        file: The file.
        faults: Collects the dropped rows.
    """
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((values, row_of))
    twice = np.zeros(len(values), np.bool_)
    twice[order[1:]] = (row_of[order[1:]] == row_of[order[:-1]]) & (values[order[1:]] == values[order[:-1]])
    checks = (
        ("classes", (values >= 0) & (values < NUM_CLASSES), f"must hold only classes from 0 to {NUM_CLASSES - 1}"),
        ("classes", ~twice, "must not repeat a class"),
        ("scores", (numbers >= 0) & (numbers <= 1), "must hold only scores in [0, 1]"),
    )
    kept = np.ones(table.num_rows, np.bool_)
    for name, good, rule in checks:
        fine = _rows_of_good(lengths, good) | ~kept  # report each line once
        faults.keep(table, fine, file, name, rule)
        kept &= fine
    table = table.filter(pa.array(kept))
    labels, best = _sorted_lists(values, numbers, row_of, kept)
    return pa.table({
        "line": table["line"], "image_id": table["image_id"], "file_name": table["file_name"], "label": table["label"],
        "labels": labels, "scores": best,
    })  # fmt: skip


def _sorted_lists(
    values: NDArray[Any], numbers: NDArray[Any], row_of: NDArray[Any], kept: NDArray[np.bool_]
) -> tuple[pa.ListArray, pa.ListArray]:
    """Return the classes and scores above 0 of the kept rows, best first; ties keep the file's order."""
    numbers = numbers.astype(np.float32)
    chosen = np.flatnonzero(kept[row_of] & (numbers > 0))
    chosen = chosen[np.lexsort((-numbers[chosen], row_of[chosen]))]
    counts = np.bincount(row_of[chosen], minlength=len(kept))[kept]
    offsets = pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(array[chosen])) for array in (values, numbers)]
    return lists[0], lists[1]


def unique(table: pa.Table, seen: dict[str, str], file: str, faults: Faults) -> pa.Table:
    """Drop lines that repeat a photograph, and the column `line`.

    Args:
        table: The lines.
        seen: File names of earlier lines, by join key.
        file: The file.
        faults: Collects the dropped lines.
    """
    names, ids = table["file_name"].to_pylist(), table["image_id"].to_pylist()
    earlier = [seen.setdefault(join_key(image_id), name) for image_id, name in zip(ids, names, strict=True)]
    good = np.array([first is name for first, name in zip(earlier, names, strict=True)], np.bool_)
    for row in np.flatnonzero(~good).tolist():
        place = f"{file}: line {table['line'][row].as_py()}"
        rule = f"and {shortened(earlier[row])} would both be image {ids[row]}; rename or remove one"
        faults.add(place, "filename", names[row], rule)
    return table.filter(pa.array(good)).drop_columns(["line"])


def _split(texts: pa.ChunkedArray) -> pa.ListArray:
    """Split texts at commas; an empty text has no items."""
    empty = pc.equal(texts, "")
    return pc.split_pattern(pc.if_else(empty, pa.scalar(None, pa.string()), texts), ",")


def _lengths(lists: Any) -> NDArray[np.int64]:
    return _array(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)


def _rows_of_good(lengths: NDArray[np.int64], good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (N,) bool: the rows whose items are all good."""
    out = np.ones(len(lengths), np.bool_)
    if not good.all():
        out[np.repeat(np.arange(len(lengths)), lengths)[~good]] = False
    return out


def _flat(lists: Any) -> Any:
    flat = pc.list_flatten(lists)
    return flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(
        values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
    )


def write_tsv(
    store: AnnotationStore,
    path: Path,
    rows: Sequence[int] | None = None,
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, int]:
    """Write filename, original class, classes and scores (4 decimals), as in the paper.

    Omitted: regions, images that could not be read, and images without an original label, which the format requires.

    Args:
        store: The split.
        path: The file.
        rows: Rows of readable images to write; None writes all.
        advance: Called with 1 per image.

    Returns:
        The numbers of lines, and of images without an original label.
    """
    lines, rows = 0, store.usable_rows().tolist() if rows is None else rows
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            record = store.record(row)
            advance(1)
            if record.label is None:
                continue
            classes = ",".join(str(index) for index, _ in record.labels)
            scores = ",".join(f"{max(score, 1e-4):.4f}" for _, score in record.labels)  # 0.0000 would not be a label
            file.write(f"{_short_name(record)}\t{record.label}\t{classes}\t{scores}\n")
            lines += 1
    return {"lines": lines, "images_without_original_label": len(rows) - lines}


def _short_name(record: Record) -> str:
    """Return the file name without folders, as in the paper, unless the image_id cannot be derived from it."""
    name = PurePosixPath(record.file_name).name
    return name if image_id_of(name, record.label) == record.image_id else record.file_name
