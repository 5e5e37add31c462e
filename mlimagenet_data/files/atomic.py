"""Atomic writing: a file or folder shows its old content or its new one, never a part of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_files", "replace_folder", "write_atomic", "write_json"]


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


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
