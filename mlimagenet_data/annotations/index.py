"""Indices of annotations: built once from Parquet files, kept in the user's cache, shared read-only by all processes.

The cache is a folder of mode 0700 of this user (`mlimagenet_data.files.private`), and an index in it a real folder of
this user: what others planted is not read. An index is found by its Parquet files' names, sizes, modification times and
footers. If their inodes or change times are also those of its making, their content is trusted; if not, they are hashed
and compared with the hashes taken then. Those hashes were themselves compared with the dataset's `build_manifest.json`.

An index is written beside its place, synced and renamed, under a lock. The lock saves work and is not needed for safety:
a process waits for it as long as the builder's files grow, and then builds a copy of its own. An index that is damaged,
odd or of another version is built anew; so is one that turns out to be damaged in use, once
(`mlimagenet_data.annotations.index_files` says what is checked).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mlimagenet_data.annotations.index_files import VERSION, DamagedIndexError, IndexFiles, write_index
from mlimagenet_data.annotations.packing import HEADER, LAYOUT, STATUS_NAMES
from mlimagenet_data.errors import AnnotationError, OutputError
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.private import is_private, private_folder
from mlimagenet_data.files.reading import file_hash, open_regular, read_manifest

__all__ = ["Index", "cache_folder", "open_index", "source_key"]

_FOOTER_BYTES = 1 << 16
_PATIENCE = 20.0  # seconds to wait for a builder whose files do not grow
_POLL = 0.5  # seconds
_ALIVE = "builder.lock"  # in a temporary folder, locked as long as its builder lives
_MOMENT = 60.0  # seconds in which a builder has surely made that file
_ENTRY = re.compile(r"\.?[0-9a-f]{32}(\..+)?|builds|user-\d+")  # names in the cache folder
_WAY_OUT = "name another folder in $MLIMAGENET_CACHE"
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def cache_folder() -> Path:
    """Return the folder for caches: $MLIMAGENET_CACHE, else `mlimagenet` in $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("MLIMAGENET_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlimagenet"


def source_key(files: Sequence[Path]) -> str:
    """Return a hash of the Parquet files' names, sizes, modification times and footers.

    A footer holds the offset, size and statistics of every column chunk.
    """
    return _Source.of(files).key


def open_index(
    files: Sequence[Path], cache: Path | None = None, *, advance: Callable[[int], object] = lambda count: None
) -> Index:
    """Open the index of Parquet files, building it first if needed. Many processes may do so at once.

    Args:
        files: The Parquet files.
        cache: The cache folder; None for the user's.
        advance: Called with the number of rows added since the last call.

    Raises:
        AnnotationError: If a file cannot be read, breaks the schema, or differs from the dataset's manifest; the message
            names file, row and field.
        OutputError: If the index cannot be written.
    """
    with _readable(files):
        source = _Source.of(files)
    place = private_folder(cache or cache_folder(), lambda name: _ENTRY.fullmatch(name) is not None, _WAY_OUT)
    return Index(source, place / source.key, advance)


class Index:
    """An open index. If it turns out to be damaged, it is built anew, once for each damage.

    Args:
        source: The Parquet files.
        folder: The index folder.
        advance: Called with the number of rows added since the last call, if it is built.
    """

    def __init__(self, source: _Source, folder: Path, advance: Callable[[int], object]) -> None:
        self._source, self._folder = source, folder
        found = _existing(source, folder)
        self._files = _provided(source, folder, advance=advance) if found is None else found

    def __len__(self) -> int:
        return len(self._files)

    @property
    def original(self) -> NDArray[np.int16]:
        """Original labels, -1 for none: (N,)."""
        return self._use(lambda files: files.original)

    @property
    def status(self) -> NDArray[np.uint8]:
        """Positions in `mlimagenet_data.annotations.packing.STATUS_NAMES`: (N,)."""
        return self._use(lambda files: files.status)

    @property
    def keys(self) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Hashes of the image_ids' join keys, sorted, and the row of each: (N,), (N,)."""
        return self._use(lambda files: files.keys)

    def read(self, row: int) -> bytes:
        """Return a row's record. Forked processes and threads may read concurrently.

        Raises:
            AnnotationError: If it is damaged, and damaged again after the index was built anew.
        """
        try:
            return self._files.read(row)
        except DamagedIndexError:
            return self._use(lambda files: files.read(row))

    def _use(self, use: Callable[[IndexFiles], _T]) -> _T:
        files = self._files
        try:
            return use(files)
        except DamagedIndexError as error:
            _log.warning("%s: %s; building the index anew", self._folder, error)
        try:
            self._files = _provided(self._source.again(), self._folder, damaged=files.identity)
            return use(self._files)
        except DamagedIndexError as error:
            raise AnnotationError(
                f"{self._folder}: {error}, also after the index was built anew; check that disk, or {_WAY_OUT}"
            ) from error


@dataclass(frozen=True)
class _Source:
    """Parquet files as they were when looked at.

    Attributes:
        files: The files.
        key: See `source_key`.
        stamps: The inode and the change time of each.
    """

    files: list[Path]
    key: str
    stamps: list[list[int]] = field(compare=False)

    @classmethod
    def of(cls, files: Sequence[Path]) -> _Source:
        digest = hashlib.sha256(json.dumps([VERSION, LAYOUT, HEADER.descr, STATUS_NAMES]).encode())
        stamps = []
        for file in files:
            with open_regular(file) as opened:
                info = os.fstat(opened.fileno())
                opened.seek(max(0, info.st_size - _FOOTER_BYTES))
                digest.update(f"{file.name} {info.st_size} {info.st_mtime_ns} ".encode() + opened.read())
                stamps.append([info.st_ino, info.st_ctime_ns])
        return cls(list(files), digest.hexdigest()[:32], stamps)

    def again(self) -> _Source:
        """Look again; raise AnnotationError if the files have changed."""
        with contextlib.suppress(OSError):
            if (now := self.of(self.files)) == self:
                return now
        raise AnnotationError(
            f"{self.files[0].parent}: the annotations have changed since they were opened; open them again"
        )

    def hashes(self) -> list[str]:
        """Return the files' SHA-256."""
        with _readable(self.files):
            return [file_hash(file) for file in self.files]


@contextlib.contextmanager
def _readable(files: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AnnotationError(f"{error.filename or files[0]}: cannot be read: {error.strerror or error}") from error


def _existing(source: _Source, folder: Path) -> IndexFiles | None:
    """Open a finished index; None if there is none of these files, or it is not to be believed."""
    if not is_private(folder):
        return None
    try:
        found = IndexFiles(folder)
    except DamagedIndexError as error:
        _log.warning("%s: %s; building the index anew", folder, error)
        return None
    made = found.sources if isinstance(found.sources, dict) else {}
    if made.get("stamps") == source.stamps:
        return found
    if made.get("sha256") != source.hashes():  # the files were touched, copied or changed
        return None
    with contextlib.suppress(OSError):  # a read-only cache: the files are hashed each time
        about = json.loads((folder / "index.json").read_bytes())
        write_json(folder / "index.json", about | {"sources": made | {"stamps": source.stamps}})
    return found


def _provided(
    source: _Source, folder: Path, damaged: str = "", advance: Callable[[int], object] = lambda count: None
) -> IndexFiles:
    """Build an index, unless another process does; `damaged` is the identity of one that must not be used."""
    try:
        with _turn(folder) as is_mine:
            found = _existing(source, folder)
            if found is not None and found.identity != damaged:
                return found
            if is_mine:
                _remove_leftovers(folder)
            _build(source, folder, advance)
            return IndexFiles(folder)
    except OSError as error:
        text = f"the index cannot be written: {error.strerror or error}; free space, or {_WAY_OUT}"
        raise OutputError(f"{folder.parent}: {text}") from error
    except DamagedIndexError as error:
        raise AnnotationError(
            f"{folder}: {error} right after it was written; check that disk, or {_WAY_OUT}"
        ) from error


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    """Wait for other builders of an index; yield whether the lock is held now."""
    lock = FileLock(f"{folder}.lock")
    seen, since = -1, time.monotonic()
    is_file = not os.path.lexists(lock.lock_file) or stat.S_ISREG(os.lstat(lock.lock_file).st_mode)
    while is_file and not lock.is_locked:
        try:
            lock.acquire(timeout=_POLL)
        except Timeout:
            if (size := _size_of_builds(folder)) != seen:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                _log.warning(
                    "%s: held without progress for %.0f s; building an index without it", lock.lock_file, _PATIENCE
                )
                break
        except (OSError, NotImplementedError) as error:  # a disk without locks
            _log.warning("%s: cannot be locked: %s", lock.lock_file, error)
            break
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _size_of_builds(folder: Path) -> int:
    sizes = 0
    for path in folder.parent.glob(f".{folder.name}.*/*"):
        with contextlib.suppress(OSError):
            sizes += path.lstat().st_size
    return sizes


def _build(source: _Source, folder: Path, advance: Callable[[int], object]) -> None:
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        with open(temporary / _ALIVE, "w") as alive:
            with contextlib.suppress(OSError):
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hashes = source.hashes()
            _compare_with_manifest(source.files, hashes)
            write_index(source.files, temporary, {"stamps": source.stamps, "sha256": hashes}, advance)
            (temporary / _ALIVE).unlink()
            _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _compare_with_manifest(files: list[Path], hashes: list[str]) -> None:
    """Raise if the manifest beside the shards states another hash; shards that no manifest lists are not compared."""
    with _readable(files):
        manifests = {folder: read_manifest(folder) for folder in {file.parent.parent for file in files}}
    for file, found in zip(files, hashes, strict=True):
        for split in manifests[file.parent.parent].get("splits", {}).values():
            listed = split.get("files")
            entry = listed.get(file.name) if isinstance(listed, dict) else None
            if isinstance(entry, dict) and entry.get("sha256") != found:
                raise AnnotationError(
                    f"{file}: its SHA-256 differs from that in build_manifest.json, so it is damaged or was changed; restore "
                    "it, or build the dataset again"
                )


def _put(temporary: Path, folder: Path) -> None:
    """Rename a finished index to its place, and move away what lies there."""
    for _ in range(10):
        try:
            os.rename(temporary, folder)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
        with contextlib.suppress(FileNotFoundError):  # another process moved it
            os.rename(folder, old)
        _remove(old)
    parent = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _remove_leftovers(folder: Path) -> None:
    """Remove what dead builders of this index left; a builder of ours that lives holds a lock."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        if is_private(path) and _is_dead(path):
            _remove(path)


def _is_dead(path: Path) -> bool:
    try:
        with open(path / _ALIVE, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            return time.time() - path.lstat().st_mtime > _MOMENT
    except OSError:
        pass
    return False


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
