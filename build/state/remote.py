"""Remote outputs on object stores and other fsspec file systems, each with a local working copy.

A build reads and writes local files, and copies the files that it commits to the store: each file whole, and a unit's
entry after its file. An object store shows only complete objects, so no file needs renaming. Files that another machine
committed are fetched when they are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from build.config.options import ConfigError
from mlimagenet_data.files.atomic import write_atomic

__all__ = ["Remote"]


class Remote:
    """A folder in a store, with a local working copy.

    Args:
        url: The folder's URL, such as `s3://bucket/name`.
        folder: The working copy. Files have the same relative path in both folders.

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
        """Copy a file to the store."""
        self._store.put_file(str(path), self.name(path))

    def pull(self, path: Path, *, to: Path | None = None) -> bool:
        """Fetch a file and return whether the store has it; if not, remove an older local copy."""
        target = to or path
        try:
            write_atomic(target, lambda temporary: self._store.get_file(self.name(path), str(temporary)))
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return False
        return True

    def size(self, path: Path) -> int | None:
        """Return a file's size in the store in bytes, or None if the store lacks it."""
        self._store.invalidate_cache()
        try:
            info: dict[str, Any] = self._store.info(self.name(path))
        except FileNotFoundError:
            return None
        return int(info["size"])

    def read(self, path: Path) -> bytes | None:
        """Return a small file's content, or None if the store lacks it."""
        try:
            content: bytes = self._store.cat_file(self.name(path))
        except FileNotFoundError:
            return None
        return content

    def remove(self, path: Path) -> None:
        """Remove a file from the store, if present."""
        if self.size(path) is not None:
            self._store.rm_file(self.name(path))

    def names(self, folder: Path) -> list[str]:
        """Return the sorted names of the entries in a folder of the store."""
        self._store.invalidate_cache()
        try:
            found = self._store.ls(self.name(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)
