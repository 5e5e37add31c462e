"""Files of an index: how they are written, and what is checked when they are read.

`records.bin` stores all that training needs of an image contiguously, so reading it takes one system call and no memory
beyond the page cache. The other files are arrays, one value per row, memory-mapped. All are raw and little-endian.
`index.json`, written last, holds their lengths and checksums.

Nothing is believed that was not checked. Opening an index compares the files' sizes; an array that is used as a whole is
compared with its checksum when first used; each record is compared with its own CRC-32, which starts from its row number,
so that neither a damaged record nor a damaged offset passes (1 microsecond per record). `benchmarks.opening` measures
both. All values were checked when the index was written; see `mlimagenet_data.annotations.validate`.
"""

from __future__ import annotations

import os
import secrets
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.packing import HEADER, LAYOUT
from mlimagenet_data.annotations.validate import ValidatedRows, checked_batches
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.reading import parse_json

__all__ = ["VERSION", "DamagedIndexError", "IndexFiles", "write_index"]

VERSION = 4
_ARRAYS = {
    "start": "<i8",  # offset of each image's record, then the end of the last one
    "crc": "<u4",  # of each image's record
    "original": "<i2",
    "status": "u1",
    "key_hash": "<u8",  # sorted
    "key_row": "<i4",  # the row of each hash
}
_LANES = 256
_MOST_JSON_BYTES = 1 << 24
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DamagedIndexError(Exception):
    """A file of an index that is not as it was written."""


class IndexFiles:
    """An index that is open for reading. Forked processes and threads may read concurrently.

    Args:
        folder: The index folder.

    Attributes:
        folder: The index folder.
        identity: A random name, other for each index that was ever written.
        sources: What `write_index` was given about the Parquet files.

    Raises:
        DamagedIndexError: If a file is missing, or is not as described in `index.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._about = _described(folder)
        self.identity: str = self._about["identity"]
        self.sources: Any = self._about["sources"]
        self._longest: int = self._about["longest"]
        self._arrays = {name: self._map(name) for name in _ARRAYS}
        self._start, self._crc = self._arrays["start"], self._arrays["crc"]
        self._records = _open(folder / "records.bin", self._about["record_bytes"])
        self._descriptor = self._records.fileno()

    def __len__(self) -> int:
        return int(self._about["rows"])

    def __del__(self) -> None:
        if hasattr(self, "_records"):
            self._records.close()

    @cached_property
    def original(self) -> NDArray[np.int16]:
        """Original labels, -1 for none: (N,)."""
        return self._checked("original")

    @cached_property
    def status(self) -> NDArray[np.uint8]:
        """Positions in `mlimagenet_data.annotations.packing.STATUS_NAMES`: (N,)."""
        return self._checked("status")

    @cached_property
    def keys(self) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Hashes of the image_ids' join keys, sorted, and the row of each: (N,), (N,)."""
        return self._checked("key_hash"), self._checked("key_row")

    def read(self, row: int) -> bytes:
        """Return a row's record; it is read by `pread`, which uses no shared file position.

        Raises:
            DamagedIndexError: If it is not the record that was written.
        """
        begin, end = self._start[row : row + 2].tolist()
        if not 0 <= begin < end <= begin + self._longest:
            raise DamagedIndexError(f"start.bin is damaged at row {row}")
        try:
            raw = os.pread(self._descriptor, end - begin, begin)
        except OSError as error:
            raise DamagedIndexError(f"records.bin cannot be read at row {row}: {error}") from error
        if zlib.crc32(raw, row) != self._crc[row]:
            raise DamagedIndexError(f"records.bin is damaged at row {row}")
        return raw

    def _map(self, name: str) -> NDArray[Any]:
        length = self._about["rows"] + (name == "start")
        kind = np.dtype(_ARRAYS[name])
        with _open(self.folder / f"{name}.bin", length * kind.itemsize) as file:
            if not length:  # an empty file cannot be mapped
                return np.zeros(0, kind)
            return np.asarray(np.memmap(file, kind, "r", shape=(length,)))

    def _checked(self, name: str) -> NDArray[Any]:
        if _checksum(self._arrays[name]) != self._about["checksums"][name]:
            raise DamagedIndexError(f"{name}.bin is damaged")
        return self._arrays[name]


def _described(folder: Path) -> dict[str, Any]:
    """Return the content of `index.json`; every value that `IndexFiles` uses has its type."""
    try:
        with _open(folder / "index.json") as file:
            found = parse_json(file.read(_MOST_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise DamagedIndexError(f"index.json: {error}") from error
    if not isinstance(found, dict) or found.get("version") != VERSION or not isinstance(found.get("identity"), str):
        raise DamagedIndexError(f"index.json does not describe an index of version {VERSION}")
    for name in ("rows", "longest", "record_bytes"):
        if type(found.get(name)) is not int or not 0 <= found[name] < 1 << 62:
            raise DamagedIndexError(f"index.json: {name} is {found.get(name)!r}; it must be a count")
    if not isinstance(found.get("checksums"), dict) or not found["checksums"].keys() >= _ARRAYS.keys():
        raise DamagedIndexError("index.json: checksums lacks an array")
    return found | {"sources": found.get("sources")}


def _open(path: Path, size: int | None = None) -> BinaryIO:
    """Open a real file of an index, which must have this size."""
    try:
        file = open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, _FLAGS))  # noqa: SIM115 - returned
        info = os.fstat(file.fileno())
    except OSError as error:
        raise DamagedIndexError(f"{path.name} cannot be opened: {error.strerror or error}") from error
    if not stat.S_ISREG(info.st_mode) or (size is not None and info.st_size != size):
        file.close()
        raise DamagedIndexError(f"{path.name} has {info.st_size} bytes; it must be a file of {size}")
    return file  # type: ignore[return-value]


def write_index(
    files: Sequence[Path], folder: Path, sources: Any, advance: Callable[[int], object] = lambda count: None
) -> None:
    """Write an index of Parquet files into a folder, and flush all of it to disk.

    Args:
        files: The Parquet files.
        folder: An existing folder.
        sources: Anything JSON can hold about the files; `IndexFiles.sources` returns it.
        advance: Called with the number of rows written since the last call.

    Raises:
        AnnotationError: If a file cannot be read or breaks the schema; the message names file, row and field.
    """
    sizes, crcs, originals, statuses, hashes, keys = [], [], [], [], [], []
    row = 0
    with open(folder / "records.bin", "wb") as out:
        for file in files:
            for batch in checked_batches(file):
                records, lengths = _pack(batch)
                sizes.append(lengths)
                crcs.append(np.fromiter(_checksums(records, lengths, row), np.uint32, len(lengths)))
                originals.append(batch.header["original"])
                statuses.append(batch.header["status"])
                hashes.append(batch.hashes)
                keys.append(batch.keys)
                out.write(records.tobytes())
                row += len(lengths)
                advance(len(lengths))
    _check_unique(_together(hashes, np.uint64))
    lengths, all_keys = _together(sizes, np.int64), _together(keys, np.uint64)
    order = np.argsort(all_keys, kind="stable")
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    arrays = {
        "start": start, "crc": _together(crcs, np.uint32), "original": _together(originals, np.int64),
        "status": _together(statuses, np.int64), "key_hash": all_keys[order], "key_row": order,
    }  # fmt: skip
    checksums = {}
    for name, kind in _ARRAYS.items():
        values = arrays[name].astype(kind)
        values.tofile(folder / f"{name}.bin")
        checksums[name] = _checksum(values)
    for path in folder.iterdir():
        _sync(path)
    about = {
        "version": VERSION, "identity": secrets.token_hex(16), "rows": row, "longest": int(lengths.max(initial=0)),
        "record_bytes": int(start[-1]), "checksums": checksums, "sources": sources,
    }  # fmt: skip
    write_json(folder / "index.json", about)  # syncs the file and the folder


def _checksum(values: NDArray[Any]) -> int:
    """Return the CRC-32 of an array's sums over 256 interleaved lanes of 64-bit words, and of its remaining bytes.

    Any flipped bit changes it. It takes a seventh of the time of the bytes' own CRC-32.
    """
    raw = values.view(np.uint8)
    end = raw.size - raw.size % (8 * _LANES)
    sums = raw[:end].view("<u8").reshape(-1, _LANES).sum(axis=0, dtype=np.uint64)
    return zlib.crc32(raw[end:].data, zlib.crc32(sums.astype("<u8").data))


def _together(parts: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts])


def _checksums(records: NDArray[np.uint8], lengths: NDArray[np.int64], row: int) -> Iterator[int]:
    ends = np.cumsum(lengths).tolist()
    view = records.data
    for k, (begin, end) in enumerate(pairwise([0, *ends])):
        yield zlib.crc32(view[begin:end], row + k)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


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
