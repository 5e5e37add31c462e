"""Recursive listings of folders."""

from __future__ import annotations

import errno
import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from mlimagenet_data.files.printing import printable

__all__ = ["MAC_METADATA", "is_mac_metadata", "is_text", "note_examples", "walk_files"]

MAC_METADATA = "macOS metadata (._* and __MACOSX)"

_SPECIAL = "FIFOs, sockets and devices"
_HIDDEN = "hidden folders"
_AGAIN = "links to folders that are listed already"
_TOO_DEEP = "folders whose path is too long for the system"
_CLOSED = "folders that may not be read"
_NOT_TEXT = "names that are not UTF-8"


def walk_files(
    root: str | os.PathLike[str],
    left_out: Counter[str] | None = None,
    may_skip: Callable[[str], bool] = lambda folder: False,
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the path below `root`, `/`-separated, and the entry of each file, in arbitrary order.

    A file is a regular file, a link to one, or a broken link, whose path is valid UTF-8. Each folder is entered once,
    however many links lead to it: at its own place, if that is below `root`, else by the first link to it in the order
    of paths. Folders whose name begins with a dot, and what macOS writes beside files, are skipped.

    Args:
        root: The folder.
        left_out: Counts what is not yielded, by reason; complete when the iterator is exhausted.
        may_skip: Called with the path below `root` of a folder that may not be read, such as `lost+found`; returns
            whether to leave it out. By default, none is.

    Raises:
        OSError: If `root`, or a folder that may not be left out, cannot be read.
    """
    counts: Counter[str] = Counter() if left_out is None else left_out
    seen: set[tuple[int, int]] = set()
    links = [("", os.fspath(root))]  # a heap of folders to enter once no folder without a link is left
    not_text: list[str] = []
    closed: list[str] = []
    while links:
        pending = [heapq.heappop(links)]
        while pending:
            prefix, folder = pending.pop()
            if not _enter(folder, seen, counts):
                continue
            inner = []
            with _entries(folder, prefix[:-1], may_skip, closed) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if is_mac_metadata(entry.name):
                        counts[MAC_METADATA] += 1
                    elif not _is_folder(entry):
                        if not _is_file(entry):
                            counts[_SPECIAL] += 1
                        elif is_text(name):
                            yield name, entry
                        else:
                            not_text.append(name)
                    elif entry.name.startswith("."):
                        counts[_HIDDEN] += 1
                    elif entry.is_symlink():
                        heapq.heappush(links, (f"{name}/", entry.path))
                    else:
                        inner.append((f"{name}/", entry.path))
            pending += sorted(inner, reverse=True)
    note_examples(counts, _NOT_TEXT, not_text)
    note_examples(counts, _CLOSED, closed)


def is_mac_metadata(name: str) -> bool:
    """Return whether macOS made a file beside others, as `._a.jpg`, or in an archive, as `__MACOSX/a.jpg`."""
    parts = name.split("/")
    return parts[-1].startswith("._") or "__MACOSX" in parts


def is_text(name: str) -> bool:
    """Return whether a name is valid UTF-8, so that a table can hold it."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def note_examples(left_out: Counter[str], reason: str, names: list[str]) -> None:
    """Count names that were left out for a reason; the key names the first one, in printable form."""
    if names:
        left_out[f"{reason}, such as {printable(ascii(min(names)[-200:]))}"] += len(names)


def _entries(
    folder: str, below: str, may_skip: Callable[[str], bool], closed: list[str]
) -> AbstractContextManager[Iterable[os.DirEntry[str]]]:
    """Return a folder's entries; none, after a note, of one that may not be read and may be left out."""
    try:
        return os.scandir(folder)
    except PermissionError:
        if not below or not may_skip(below):
            raise
    closed.append(below)
    return nullcontext(())


def _enter(folder: str, seen: set[tuple[int, int]], counts: Counter[str]) -> bool:
    """Return whether a folder is seen for the first time."""
    try:
        info = os.stat(folder)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        counts[_TOO_DEEP] += 1
        return False
    key = (info.st_dev, info.st_ino)
    if key in seen:
        counts[_AGAIN] += 1
        return False
    seen.add(key)
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a regular file, a link to one, or a broken link."""
    try:
        if entry.is_file():
            return True
        if not entry.is_symlink():
            return False
        entry.stat()  # of the link's target: a FIFO, a socket or a device
    except OSError:
        return True
    return False
