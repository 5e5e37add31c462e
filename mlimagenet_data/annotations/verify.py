"""End-to-end checks of annotations: every row and mask, ids across shards, and the files against the build manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlimagenet_data.annotations.manifest import MANIFEST, faults_of_file, foreign_files, listed_files
from mlimagenet_data.annotations.schema import SCHEMA_VERSION
from mlimagenet_data.annotations.validate import check_batch, raw_batches
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.reading import read_manifest

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
    """Compare the split's shards, and the files beside them, with the manifest."""
    folder = files[0].parent.parent
    name = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
        if not manifest:
            yield f"{name}: no such file; without it the files' sizes and hashes cannot be verified"
            return
        if manifest.get("schema_version") != SCHEMA_VERSION:
            found = manifest.get("schema_version")
            yield f"{name}: schema_version {found!r} is unsupported; it must be {SCHEMA_VERSION}"
        listed = listed_files(folder, manifest, split)
        everything = {f"data/{file}" for part in manifest["splits"].values() for file in part.get("files") or ()}
    except (AnnotationError, OSError, TypeError) as error:
        yield str(error)
        return
    for file, about in listed.items():
        yield from faults_of_file(folder, file, about)
    for file in foreign_files(folder, everything):
        yield f"{folder / file}: present, but not listed in the manifest"
