"""Recursive listings of folders."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["walk_files"]


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
