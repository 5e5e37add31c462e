"""A file system as object stores are: a whole object or none, nothing to rename; it can be made to fail."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Shelf(LocalFileSystem):
    """`shelf:///folder`: objects in a local folder.

    Attributes:
        fail_at: The put, counted from 1, that raises; 0 for none.
        kill_at: The put at which the process is killed before the object is there.
    """

    protocol = "shelf"
    cachable = False
    fail_at: ClassVar[int] = 0
    kill_at: ClassVar[int] = 0
    puts: ClassVar[int] = 0

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(path).removeprefix("shelf://").rstrip("/") or "/"

    def put_file(self, path1: str, path2: str, callback: Any = None, **_: Any) -> None:
        """Put an object, all of it at once."""
        Shelf.puts += 1
        if Shelf.puts == Shelf.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if Shelf.puts == Shelf.fail_at:
            raise OSError(f"{path2}: the store does not answer")
        target = Path(self._strip_protocol(path2))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        shutil.copyfile(path1, part)
        os.replace(part, target)

    def mv(self, *_: Any, **__: Any) -> None:
        """Refuse: object stores copy."""
        raise AssertionError("an object was renamed")

    rename = mv_file = move = mv


def register() -> None:
    """Make `shelf://` known to fsspec."""
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    Shelf.fail_at = Shelf.kill_at = Shelf.puts = 0


def register_and_die(put: int) -> None:
    """Make it known, and kill the process at a put."""
    register()
    Shelf.kill_at = put
