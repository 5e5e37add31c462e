"""Single output files, and the rules of where an output may be.

A single output file must not exist yet, unless its first bytes show that it is an earlier one of ours. Outputs and inputs
do not contain one another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlimagenet_data.errors import OutputError
from mlimagenet_data.files.atomic import write_atomic
from mlimagenet_data.files.reading import open_regular

__all__ = ["PICTURE_MARK", "PICTURE_METADATA", "check_apart", "check_new", "write_new"]

PICTURE_METADATA = {"Software": "mlimagenet-data"}  # in the PNG files that we draw
PICTURE_MARK = b"Software\0mlimagenet-data"  # its bytes there
_MARK_WITHIN = 4096


def check_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Check that an output and its inputs do not overlap.

    Raises:
        OutputError: If one contains the other, by whatever path or link.
    """
    target = _places(out)
    for given in inputs:
        source = _places(given)
        if source[0] in target or target[0] in source:
            raise OutputError(
                f"{out}: the output and the input {given} must not contain one another; choose another place for the output"
            )


def check_new(path: Path, *, inputs: Iterable[Path] = (), mark: bytes = b"") -> None:
    """Check that a single output file can be written.

    Args:
        path: The file.
        inputs: Files and folders that are read; the file must lie outside them.
        mark: Bytes among the first 4096 of such a file of ours; a file that has them may be replaced.

    Raises:
        OutputError: If the file exists and does not have the mark, is a folder, or overlaps an input.
    """
    check_apart(path, inputs)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if os.path.lexists(path) and not (mark and _has_mark(path, mark)):
        raise OutputError(f"{path}: already exists; remove it, or choose another name")


def write_new(path: Path, fill: Callable[[Path], object], *, mark: bytes = b"") -> None:
    """Let `fill` write a single output file, and put it in place atomically.

    Args:
        path: The file.
        fill: Writes the file at the path that it is given.
        mark: As for `check_new`.

    Raises:
        OutputError: If the file exists and does not have the mark.
    """

    def fill_and_check(temporary: Path) -> None:
        fill(temporary)
        check_new(path, mark=mark)  # another file may have appeared meanwhile

    check_new(path, mark=mark)
    write_atomic(path, fill_and_check)


def _places(path: Path) -> list[Any]:
    """Return what identifies a path and each folder above it, whatever their names."""
    real = Path(os.path.realpath(path))
    found: list[Any] = []
    for place in (real, *real.parents):
        try:
            info = os.stat(place)
            found.append((info.st_dev, info.st_ino))
        except OSError:
            found.append(place)
    return found


def _has_mark(path: Path, mark: bytes) -> bool:
    try:
        with open_regular(path) as file:
            return mark in file.read(_MARK_WITHIN)
    except OSError:
        return False
