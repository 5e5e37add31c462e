"""Atomic writing: a file or folder shows its old content or its new one, never a part of it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

__all__ = ["StagedFile", "atomic_files", "replace_folder", "staged_file", "write_atomic", "write_json"]

_UMASK = os.umask(0)  # it can only be read by setting it, which is unsafe once threads run
os.umask(_UMASK)


@contextmanager
def atomic_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a temporary path beside each path; sync and rename them all when the block ends without an error.

    The final names never show a partly written file. Only a killed process leaves temporary files behind,
    `.<name>.<process>-<random>.tmp`.
    """
    with ExitStack() as stack:
        staged = [stack.enter_context(staged_file(path)) for path in paths]
        yield [file.path for file in staged]
        for file in staged:
            file.sync()
        for file in staged:
            file.put()


class StagedFile:
    """A temporary file beside its final place.

    Attributes:
        path: Its path.
        final: Its final place.
    """

    def __init__(self, path: Path, final: Path) -> None:
        self.path, self.final = path, final

    def sync(self) -> None:
        """Flush the file to disk."""
        os.chmod(self.path, 0o666 & ~_UMASK)  # some libraries create private files
        _sync(self.path)

    def put(self) -> None:
        """Rename the file to its final place."""
        os.replace(self.path, self.final)
        _sync(self.final.parent)


@contextmanager
def staged_file(path: Path) -> Iterator[StagedFile]:
    """Yield a temporary file beside `path`; remove it at the end of the block unless it was put in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = StagedFile(path.with_name(f".{path.name}.{_token()}.tmp"), path)
    try:
        yield staged
    finally:
        staged.path.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then sync it and rename it to `path`."""
    with atomic_files([path]) as (temporary,):
        write(temporary)


def replace_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` populate a temporary folder, then replace `folder` with it. If `fill` fails, `folder` is kept."""
    token = _token()
    temporary, old = (folder.with_name(f".{folder.name}.{token}.{end}") for end in ("tmp", "old"))
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
        _sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _token() -> str:
    """Return a name for this write's temporary files; machines that share a disk may share process numbers."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
