"""Outputs on object stores and other file systems that fsspec knows: a local working copy, and what is committed of it.

A build reads and writes local files; what it commits is put into the store as well, each file whole, and a unit's entry after its
file. An object store shows an object when all of it is there, so nothing has to be renamed. What another machine committed is
fetched when it is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from build.config.options import ConfigError
from mlimagenet_data.files import write_atomic

__all__ = ["Remote"]


class Remote:
    """A folder in a store, and the local folder that is its working copy.

    Args:
        url: Such as `s3://bucket/name`.
        folder: The local folder; a file of it has the same name below both.

    Raises:
        ConfigError: If fsspec does not know the file system, or lacks the package for it.
    """

    def __init__(self, url: str, folder: Path) -> None:
        import fsspec

        try:
            self._store, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"out: {url}: {error}") from error
        self.url, self.folder = url.rstrip("/"), folder

    def name(self, path: Path) -> str:
        """Return a local path's name in the store."""
        return f"{self._root.rstrip('/')}/{path.relative_to(self.folder).as_posix()}"

    def push(self, path: Path) -> None:
        """Put a file into the store."""
        self._store.put_file(str(path), self.name(path))

    def pull(self, path: Path, *, to: Path | None = None) -> bool:
        """Fetch a file; return whether the store has it. Where it has not, an older local one is removed."""
        target = to or path
        try:
            write_atomic(target, lambda temporary: self._store.get_file(self.name(path), str(temporary)))
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return False
        return True

    def size(self, path: Path) -> int | None:
        """Return how many bytes a file has in the store, None if it is not there."""
        self._store.invalidate_cache()
        try:
            info: dict[str, Any] = self._store.info(self.name(path))
        except FileNotFoundError:
            return None
        return int(info["size"])

    def read(self, path: Path) -> bytes | None:
        """Return a small file's content, None if it is not in the store."""
        try:
            content: bytes = self._store.cat_file(self.name(path))
        except FileNotFoundError:
            return None
        return content

    def remove(self, path: Path) -> None:
        """Remove a file from the store, if it is there."""
        if self.size(path) is not None:
            self._store.rm_file(self.name(path))

    def names(self, folder: Path) -> list[str]:
        """Return the names of what lies in a folder of the store, sorted."""
        self._store.invalidate_cache()
        try:
            found = self._store.ls(self.name(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)
