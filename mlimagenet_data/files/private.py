"""Folders whose content is believed because nobody else can write there."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from mlimagenet_data.errors import OutputError

__all__ = ["is_private", "private_folder"]

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(named: Path, is_ours: Callable[[str], bool], way_out: str) -> Path:
    """Return a folder of mode 0700 that belongs to this user: the named one, or `user-<uid>` in it.

    A folder that does not exist is created, and one of ours is closed to others. `user-<uid>` serves where the named
    folder belongs to somebody else, or is open to others and holds more than our entries, as a shared scratch does.

    Args:
        named: The folder that the user or the environment names. It may be a link.
        is_ours: Whether a name in it is that of an entry of ours.
        way_out: What a refusal tells the user to do.

    Raises:
        OutputError: If no such folder can be made, or somebody else has made `user-<uid>`.
    """
    try:
        if not named.is_dir():
            named.parent.mkdir(parents=True, exist_ok=True)
            named.mkdir(0o700, exist_ok=True)
        folder = named.resolve()
        if not _is_mine(folder) or (_mode(folder) & 0o077 and not all(map(is_ours, os.listdir(folder)))):
            folder /= f"user-{os.geteuid()}"
            with contextlib.suppress(FileExistsError):
                folder.mkdir(0o700)
        if _is_mine(folder) and _mode(folder) != 0o700:
            with contextlib.suppress(OSError):  # a read-only disk; what counts is that nobody else can write
                folder.chmod(0o700)
    except OSError as error:
        raise OutputError(f"{named}: cannot hold a private folder: {error.strerror or error}; {way_out}") from error
    if not is_private(folder):
        raise OutputError(f"{folder}: is no folder of this user alone, so its content is not trusted; {way_out}")
    return folder


def is_private(path: Path) -> bool:
    """Return whether a path is a real folder of this user, not a link, into which nobody else can write."""
    try:
        return _is_mine(path) and not _mode(path) & _OTHERS_WRITE
    except OSError:
        return False


def _is_mine(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)
