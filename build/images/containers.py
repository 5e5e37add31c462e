"""Checks shared by the sources that hold many images in one file (tar, Parquet), since such files may come from strangers."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from build.config.options import ConfigError
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.names import is_plain_path

__all__ = ["check_class", "check_path"]


def check_path(name: str, container: Path) -> str:
    """Return the normalised name of an image inside a container.

    Raises:
        ConfigError: If the path is absolute or could leave the folder it is joined to.
    """
    path = str(PurePosixPath(name))
    if not name or not is_plain_path(path):
        raise ConfigError(f"images: {container}: {name!r} must be a relative path that stays inside its folder")
    return path


def check_class(value: Any, container: Path, name: str) -> int | None:
    """Return a class index from a container, None where it is missing or -1.

    Raises:
        ConfigError: If it is not a class index.
    """
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < NUM_CLASSES:
        raise ConfigError(f"images: {container}: {name}: class {value!r} must be an index from 0 to {NUM_CLASSES - 1}")
    return value
