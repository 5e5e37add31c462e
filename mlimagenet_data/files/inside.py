"""Names that must not lead out of their folder, checked where a file is used, after its links are resolved."""

from __future__ import annotations

import os
from pathlib import Path

from mlimagenet_data.errors import MLImageNetError

__all__ = ["OutsideError", "resolve_inside"]


class OutsideError(MLImageNetError, ValueError):
    """A name or a link that leads out of its folder."""


def resolve_inside(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the real path of a file in a folder, with all links resolved. The file need not exist.

    Args:
        folder: The folder. It may be a link itself.
        name: A path below it, `/`-separated; it may come from a stranger.

    Raises:
        OutsideError: If the real path is not below the real folder.
    """
    try:
        top = os.path.realpath(folder)
        path = os.path.realpath(os.path.join(top, name))
        inside = path != top and os.path.commonpath([top, path]) == top
    except ValueError as error:  # a NUL character
        raise OutsideError(f"{name!r}: not a path: {error}") from error
    if not inside:
        raise OutsideError(
            f"{os.path.join(os.fspath(folder), name)}: leads to {path}, outside of {os.fspath(folder)}; what is copied must "
            "lie in that folder: put the file there, or name the folder that holds it"
        )
    return Path(path)
