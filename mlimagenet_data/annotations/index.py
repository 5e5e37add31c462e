"""Index of annotations, built once from Parquet files and shared read-only by all processes.

An index is a folder of raw little-endian files and `index.json`. `records.bin` stores all that training needs of an
image contiguously, so reading it takes one system call and no memory beyond the page cache. Small arrays (record
offsets, original labels) are memory-mapped. All values were checked when the index was built; see
`mlimagenet_data.annotations.validate`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mlimagenet_data.annotations.packing import HEADER, LAYOUT
from mlimagenet_data.annotations.validate import ValidatedRows, checked_batches
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.atomic import replace_folder

__all__ = ["Index", "cache_folder", "open_index", "source_key"]

_VERSION = 2
_FOOTER_BYTES = 1 << 16
_MAPPED = {
    "start": "<i8",  # offset of each image's record, then the end of the last one
    "original": "<i2",
    "status": "u1",
    "key_hash": "<u8",  # sorted
    "key_row": "<i4",  # the row of each hash
}


class Index:
    """An open index.

    Args:
        folder: The index folder.

    Attributes:
        start: (N + 1,) offset of each image's record, then the end of the last one.
        original: (N,) original labels, -1 for none.
        status: (N,) positions in `mlimagenet_data.annotations.packing.STATUS_NAMES`.
        key_hash: (N,) hashes of the image_ids' join keys, sorted.
        key_row: (N,) row of each hash.
    """

    def __init__(self, folder: Path) -> None:
        lengths = json.loads((folder / "index.json").read_text(encoding="utf-8"))["lengths"]
        arrays: dict[str, NDArray[Any]] = {}
        for name, kind in _MAPPED.items():
            empty = not lengths[name]  # an empty file cannot be mapped
            path = folder / f"{name}.bin"
            arrays[name] = (
                np.zeros(0, kind) if empty else np.asarray(np.memmap(path, kind, "r", shape=(lengths[name],)))
            )
        self.start, self.original, self.status = arrays["start"], arrays["original"], arrays["status"]
        self.key_hash, self.key_row = arrays["key_hash"], arrays["key_row"]
        self._records = open(folder / "records.bin", "rb", buffering=0)  # noqa: SIM115 - open as long as the index is
        self._descriptor = self._records.fileno()

    def __len__(self) -> int:
        return len(self.status)

    def read(self, row: int) -> bytes:
        """Return a row's record. Forked processes may read concurrently: `pread` uses no shared file position."""
        begin = int(self.start[row])
        return os.pread(self._descriptor, int(self.start[row + 1]) - begin, begin)

    def close(self) -> None:
        """Close the file; later calls to `read` fail."""
        self._records.close()

    def __del__(self) -> None:
        if hasattr(self, "_records"):
            self.close()


def cache_folder() -> Path:
    """Return the folder for indices: $MLIMAGENET_CACHE, else `mlimagenet` in $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("MLIMAGENET_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlimagenet"


def source_key(files: Sequence[Path]) -> str:
    """Return a hash of the Parquet files' names, sizes, modification times and footers.

    A footer holds the offset, size and statistics of every column chunk.
    """
    digest = hashlib.sha256(json.dumps([_VERSION, LAYOUT, HEADER.descr]).encode())
    for file in files:
        with open(file, "rb") as opened:
            info = os.fstat(opened.fileno())
            opened.seek(max(0, info.st_size - _FOOTER_BYTES))
            digest.update(f"{file.name} {info.st_size} {info.st_mtime_ns} ".encode() + opened.read())
    return digest.hexdigest()[:32]


def open_index(files: Sequence[Path], cache: Path | None = None) -> Index:
    """Open the index of Parquet files, building it first if needed. Many processes may do so at once.

    Raises:
        AnnotationError: If a file cannot be read or breaks the schema; the message names file, row and field.
    """
    key = source_key(files)
    folder = (cache or cache_folder()) / key
    if not (folder / "index.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            if not (folder / "index.json").exists():
                for leftover in folder.parent.glob(f".{key}.*"):  # of interrupted builds; the lock keeps others out
                    shutil.rmtree(leftover, ignore_errors=True)
                replace_folder(folder, lambda temporary: _write(files, temporary))
    return Index(folder)


def _write(files: Sequence[Path], folder: Path) -> None:
    starts, originals, statuses, hashes, keys = [np.zeros(1, np.int64)], [], [], [], []
    with open(folder / "records.bin", "wb") as out:
        for file in files:
            for batch in checked_batches(file):
                records, sizes = _pack(batch)
                starts.append(starts[-1][-1] + np.cumsum(sizes))
                originals.append(batch.header["original"])
                statuses.append(batch.header["status"])
                hashes.append(batch.hashes)
                keys.append(batch.keys)
                out.write(records.tobytes())
    nothing = np.zeros(0, np.int64)
    _check_unique(np.concatenate([nothing.astype(np.uint64), *hashes]))
    all_keys = np.concatenate([nothing.astype(np.uint64), *keys])
    order = np.argsort(all_keys, kind="stable")
    arrays = {
        "start": np.concatenate(starts),
        "original": np.concatenate([nothing, *originals]),
        "status": np.concatenate([nothing, *statuses]),
        "key_hash": all_keys[order],
        "key_row": order,
    }
    for name, values in arrays.items():
        values.astype(_MAPPED[name]).tofile(folder / f"{name}.bin")
    lengths = {name: len(values) for name, values in arrays.items()}
    (folder / "index.json").write_text(json.dumps({"version": _VERSION, "lengths": lengths}), encoding="utf-8")


def _check_unique(hashes: NDArray[np.uint64]) -> None:
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    if (twice := np.flatnonzero(ordered[1:] == ordered[:-1])).size:
        rows = sorted(int(order[twice[0] + k]) for k in (0, 1))
        raise AnnotationError(f"rows {rows[0]} and {rows[1]} have the same image_id; every image_id must be unique")


def _pack(batch: ValidatedRows) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pack a batch's arrays image by image. Return all bytes and the number of bytes per image."""
    count = len(batch.header)
    parts = [(batch.header.view(np.uint8), np.full(count, HEADER.itemsize))]
    for name, kind, field in LAYOUT:
        values = np.ascontiguousarray(batch.arrays[name]).astype(kind)
        parts.append((values.view(np.uint8), batch.header[field].astype(np.int64) * values.itemsize))
    lengths = np.stack([length for _, length in parts])
    sizes = lengths.sum(axis=0)
    begins = np.cumsum(sizes) - sizes + np.cumsum(lengths, axis=0) - lengths  # per part and image
    out = np.zeros(int(sizes.sum()), np.uint8)
    for (data, length), begin in zip(parts, begins, strict=True):
        source = np.cumsum(length) - length
        out[np.arange(data.size) + np.repeat(begin - source, length)] = data
    return out, sizes
