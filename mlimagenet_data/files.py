"""File utilities: atomic writes, hashes, manifests and recursive listings."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from mlimagenet_data.errors import AnnotationError

__all__ = [
    "TORCH_LOAD_ERRORS",
    "atomic_files",
    "file_hash",
    "read_manifest",
    "replace_folder",
    "version_of",
    "walk_files",
    "write_atomic",
    "write_json",
]

# Errors of torch.load(weights_only=True) on damaged files, whose bytes its unpickler executes as a program (found by
# `benchmarks.fuzz`).
TORCH_LOAD_ERRORS = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip
_MOST_MANIFEST_BYTES = 1 << 28


@contextmanager
def atomic_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a temporary path beside each path; sync and rename them all when the block ends without an error.

    The final names never show a partly written file, and no temporary file is left behind.
    """
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    temporaries = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    try:
        yield temporaries
        for temporary in temporaries:
            _sync(temporary)
        for temporary, path in zip(temporaries, paths, strict=True):
            os.replace(temporary, path)
        for folder in {path.parent for path in paths}:
            _sync(folder)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then sync it and rename it to `path`."""
    with atomic_files([path]) as (temporary,):
        write(temporary)


def replace_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` populate a temporary folder, then replace `folder` with it. If `fill` fails, `folder` is kept."""
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had this number
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a dataset folder's `build_manifest.json`, which may come from a stranger; `{}` if it does not exist.

    Raises:
        AnnotationError: If it is not a JSON object whose `splits` are objects.
    """
    path = folder / "build_manifest.json"
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > _MOST_MANIFEST_BYTES:
            raise ValueError(f"it must have at most {_MOST_MANIFEST_BYTES} bytes")
        found = json.loads(path.read_bytes())
        splits = found["splits"]
        if not isinstance(found, dict) or not all(isinstance(split, dict) for split in splits.values()):
            raise ValueError("each split must be an object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a build manifest: {error}") from error
    return found


def version_of(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def walk_files(root: str | os.PathLike[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the path below `root`, `/`-separated, and the entry of each file, in arbitrary order.

    Links are followed; a folder that contains itself is entered once. Folders whose name begins with a dot are skipped.
    """
    pending = [(os.fspath(root), "", frozenset[tuple[int, int]]())]
    while pending:
        folder, prefix, above = pending.pop()
        info = os.stat(folder)
        key = (info.st_dev, info.st_ino)
        if key in above:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_folder(entry):
                    yield prefix + entry.name, entry
                elif not entry.name.startswith("."):
                    pending.append((entry.path, f"{prefix}{entry.name}/", above | {key}))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
