"""Files: written so that none is ever half there, hashed, and listed below a folder."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlimagenet_data.errors import AnnotationError

__all__ = ["TORCH_LOAD_ERRORS", "file_hash", "read_manifest", "walk_files", "write_atomic", "write_json"]

# What torch.load(weights_only=True) raises of damaged files: its unpickler runs them as programs (found by `benchmarks.fuzz`).
TORCH_LOAD_ERRORS = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip
_MOST_MANIFEST_BYTES = 1 << 28


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a dataset folder's `build_manifest.json`, which may be a stranger's; `{}` if there is none.

    Raises:
        AnnotationError: If it is no JSON object whose `splits` are objects.
    """
    path = folder / "build_manifest.json"
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > _MOST_MANIFEST_BYTES:
            raise ValueError(f"it has more than {_MOST_MANIFEST_BYTES} bytes")
        found = json.loads(path.read_bytes())
        splits = found["splits"]
        if not isinstance(found, dict) or not all(isinstance(split, dict) for split in splits.values()):
            raise ValueError("its splits are no objects")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a build manifest: {error!r}") from error
    return found


def walk_files(root: str | os.PathLike[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the path below `root`, `/`-separated, and the entry of each file, in no order.

    Links are followed; a folder that contains itself is entered once. Folders whose name begins with a dot are left out.
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
