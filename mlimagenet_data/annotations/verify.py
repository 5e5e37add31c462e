"""End-to-end checks of annotations: every row and mask, ids across shards, and the files against the build manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlimagenet_data.annotations.schema import SCHEMA_VERSION
from mlimagenet_data.annotations.validate import check_batch, raw_batches
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.reading import file_hash, read_manifest

__all__ = ["faults_of"]


def faults_of(files: Sequence[Path], split: str, advance: Callable[[int], object] = lambda rows: None) -> Iterator[str]:
    """Yield the faults of a split; each faulty row once, with its file, row number, first bad field and value.

    Args:
        files: All shards of the split, as returned by `mlimagenet_data.annotations.shards.annotation_files`.
        split: Name of the split in the manifest.
        advance: Called with the number of rows checked.
    """
    yield from _manifest_faults(files, split)
    places: list[tuple[Path, int]] = []  # per part: its file and its first row there
    hashes: list[NDArray[np.uint64]] = []
    for file in files:
        try:
            for first, batch in raw_batches(file):
                yield from _row_faults(batch, file, first, places, hashes)
                advance(batch.num_rows)
        except AnnotationError as error:
            yield str(error)
    yield from _duplicate_ids(places, hashes)


def _row_faults(
    batch: pa.RecordBatch, file: Path, first: int, places: list[tuple[Path, int]], hashes: list[NDArray[np.uint64]]
) -> Iterator[str]:
    """Bisect rows until each faulty row is isolated."""
    try:
        hashes.append(check_batch(batch, file, first).hashes)
        places.append((file, first))
    except AnnotationError as error:
        if batch.num_rows == 1:
            yield str(error)
            return
        half = batch.num_rows // 2
        for start, part in ((0, batch.slice(0, half)), (half, batch.slice(half))):
            yield from _row_faults(part, file, first + start, places, hashes)


def _duplicate_ids(places: list[tuple[Path, int]], hashes: list[NDArray[np.uint64]]) -> Iterator[str]:
    if not hashes:
        return
    part = np.repeat(np.arange(len(hashes)), [len(values) for values in hashes])
    row = np.concatenate([np.arange(first, first + len(h)) for (_, first), h in zip(places, hashes, strict=True)])
    together = np.concatenate(hashes)
    order = np.argsort(together, kind="stable")
    for place in np.flatnonzero(together[order[1:]] == together[order[:-1]]).tolist():
        one, other = (f"{places[part[k]][0]}: row {row[k]}" for k in order[place : place + 2])
        yield f"{other}, image_id: duplicate of {one}"


def _manifest_faults(files: Sequence[Path], split: str) -> Iterator[str]:
    folder = files[0].parent.parent
    try:
        manifest = read_manifest(folder)
    except AnnotationError as error:
        yield str(error)
        return
    name = folder / "build_manifest.json"
    if not manifest:
        yield f"{name}: no such file; without it the shards' sizes and hashes cannot be verified"
        return
    if manifest.get("schema_version") != SCHEMA_VERSION:
        yield f"{name}: schema_version {manifest.get('schema_version')!r} is unsupported; it must be {SCHEMA_VERSION}"
    listed = manifest["splits"].get(split, {}).get("files")
    if not isinstance(listed, dict):
        yield f"{name}: does not list split {split!r} or its files"
        return
    present = {file.name for file in files}
    yield from (
        f"{folder / 'data' / gone}: listed in the manifest, but missing" for gone in sorted({*listed} - present)
    )
    for file in files:
        if file.name in listed:
            yield from _file_faults(file, listed[file.name])
        else:
            yield f"{file}: present, but not listed in the manifest"


def _file_faults(file: Path, entry: Any) -> Iterator[str]:
    entry = entry if isinstance(entry, dict) else {}
    if (size := file.stat().st_size) != entry.get("bytes"):
        yield f"{file}: {size} bytes, but the manifest states {entry.get('bytes')}"
    elif file_hash(file) != entry.get("sha256"):
        yield f"{file}: SHA-256 differs from the manifest"
    try:
        rows = pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError):
        return  # reported when its rows are read
    if rows != entry.get("rows"):
        yield f"{file}: {rows} rows, but the manifest states {entry.get('rows')}"
