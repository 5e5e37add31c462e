"""The record of finished units. It commits their files so that no half-written file is ever read as complete.

A unit's file is written under a temporary name, synced and renamed. Then its entry, a small JSON file with hash, row
count and fingerprint, is written the same way. A unit is done if its entry exists and holds the fingerprint of the
current settings and inputs, and its file is the recorded one. With one entry per unit, no lock is needed and no shared
file is rewritten. For a remote output, file and entry are then copied to the store (`build.state.remote`), and entries
are read from there.

A commit needs the run's lease (`build.state.lock`). A file is hashed when it is written, and again before a process
reads it for the first time.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from build.config.options import digest
from build.state.lock import Lease, LeaseLostError
from build.state.remote import Remote
from mlimagenet_data.errors import StateError
from mlimagenet_data.files.atomic import staged_file, write_json
from mlimagenet_data.files.reading import file_hash, parse_json, version_of

__all__ = ["Ledger", "LedgerEntry", "UnitOutput", "changed_settings", "stamp_of"]

Stamp = tuple[int, int, int, int]  # size, modification time, change time, inode
_PACKAGES = ("mlimagenet-data", "torch", "torchvision", "timm", "numpy", "scipy", "pillow", "pyarrow", "datasets")
_verified: dict[Path, tuple[str, Stamp]] = {}  # files that this process has hashed


@dataclass(frozen=True)
class LedgerEntry:
    """A committed unit.

    Attributes:
        file: Name of the unit's file.
        sha256: Hash of its bytes.
        size: Length in bytes.
        rows: Number of rows.
        fingerprint: Hash of everything that the content depends on.
        modified_ns: The file's modification time.
        settings: The options that made the file, to explain a mismatch and to fill the manifest.
        facts: Counts and timings that the stage reports.
        changed_ns: The file's change time. While it, size, modification time and inode stay the same, a run that
            does not read the file does not hash it again.
        inode: The file's inode.
        versions: Versions of the packages that made the file.
    """

    file: str
    sha256: str
    size: int
    rows: int
    fingerprint: str
    modified_ns: int
    settings: dict[str, Any]
    facts: dict[str, Any]
    changed_ns: int = -1
    inode: int = -1
    versions: dict[str, Any] | None = None

    @classmethod
    def of(cls, content: bytes) -> LedgerEntry | None:
        """Return the entry in a file's content; None if it is damaged, so that the unit counts as not done."""
        try:
            found = parse_json(content)
            entry, check = cls(**found["entry"]), found["sha256"]
        except (ValueError, TypeError, KeyError):
            return None
        return entry if entry._hash == check else None

    @property
    def content(self) -> dict[str, Any]:
        """What its file holds: the entry and its hash."""
        return {"entry": asdict(self), "sha256": self._hash}

    @property
    def _hash(self) -> str:
        return digest(asdict(self))

    @property
    def stamp(self) -> Stamp:
        """Size, modification time, change time and inode of the file."""
        return (self.size, self.modified_ns, self.changed_ns, self.inode)

    def fault(self, path: Path) -> str:
        """Hash a file and return how it differs from the recorded one; empty if it does not."""
        try:
            size = path.stat().st_size
        except OSError as error:
            return "file missing" if isinstance(error, FileNotFoundError) else f"file unreadable: {error.strerror}"
        if size != self.size:
            return f"file damaged: {size} bytes instead of {self.size}"
        return "" if file_hash(path) == self.sha256 else "file damaged: hash differs"


@dataclass(frozen=True)
class UnitOutput:
    """A computed unit: `write` writes its file; `facts` are the counts and timings to report."""

    rows: int
    facts: dict[str, Any]
    write: Callable[[Path], object]


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return which settings differ, and how; empty if none do."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return ", ".join(f"{name} was {old.get(name)}, is now {new.get(name)}" for name in names)


def stamp_of(path: Path) -> Stamp:
    """Return a file's size, modification time, change time and inode."""
    info = path.stat()
    return (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


@functools.cache
def _versions() -> dict[str, Any]:
    return {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}}


class Ledger:
    """The units of one stage, in one folder.

    Args:
        folder: The folder.
        remote: The store of which it is a working copy.
        lease: The run's right to commit; None to read only.
    """

    def __init__(self, folder: Path, remote: Remote | None = None, lease: Lease | None = None) -> None:
        self.folder = folder
        self._remote, self._lease = remote, lease

    def path(self, unit: str) -> Path:
        """Return the path of a unit's file; for a remote output, of its working copy."""
        return self.folder / unit

    def read(self, unit: str) -> Path:
        """Return a unit's file once it is known to be what was committed. A remote output's is fetched if needed.

        Raises:
            StateError: If it is damaged; its entry is withdrawn, so that the next run makes it again.
        """
        path, entry = self.path(unit), self.entry(unit)
        if entry is None:
            raise StateError(f"{path}: not finished; run the same command again")
        try:
            if _verified.get(path) == (entry.sha256, stamp_of(path)):
                return path
        except OSError:
            pass  # `fault` says what is wrong
        reason = entry.fault(path)
        if reason and self._remote is not None:
            self._remote.pull(path)
            reason = entry.fault(path)
        if reason:
            if self._lease is not None:
                self.withdraw(unit)
            raise StateError(f"{path}: {reason}; run the same command again to make it again")
        _verified[path] = (entry.sha256, stamp_of(path))
        return path

    def entry(self, unit: str) -> LedgerEntry | None:
        """Return a unit's entry, or None if it is missing or damaged."""
        path = self._entry_path(unit)
        try:
            content = self._remote.read(path) if self._remote else path.read_bytes()
        except OSError:
            return None
        return None if content is None else LedgerEntry.of(content)

    def entries(self) -> dict[str, LedgerEntry]:
        """Return all readable entries."""
        return {name: entry for name in self._names() if (entry := self.entry(name)) is not None}

    def fault(self, entry: LedgerEntry) -> str:
        """Hash a unit's file (the store's, for a remote output) and return how it differs from the recorded one."""
        path = self.path(entry.file)
        if self._remote is None:
            return entry.fault(path)
        with staged_file(path) as fetched:
            self._remote.pull(path, to=fetched.path)
            return entry.fault(fetched.path)

    def why_not_done(self, unit: str, fingerprint: str, settings: dict[str, Any]) -> str | None:
        """Return why a unit must be done, or None if it is done."""
        entry = self.entry(unit)
        if entry is None:
            return "not done yet"
        if entry.fingerprint != fingerprint:
            changes = changed_settings(entry.settings, settings)
            return f"changed: {changes}" if changes else "inputs changed"
        path = self.path(unit)
        if self._remote is not None:
            return None if self._remote.size(path) == entry.size else "file in the store missing or damaged"
        if path.exists() and stamp_of(path) == entry.stamp:
            return None
        if reason := entry.fault(path):
            return reason
        self.restamp(unit)
        return None

    def commit(self, unit: str, fingerprint: str, settings: dict[str, Any], output: UnitOutput) -> LedgerEntry:
        """Write a unit's file and then its entry.

        Raises:
            LeaseLostError: If another run has begun meanwhile.
        """
        path = self.path(unit)
        self.withdraw(unit)  # an old entry must not vouch for the new file
        with staged_file(path) as staged:
            output.write(staged.path)
            staged.sync()
            sha256 = file_hash(staged.path)
            with self._committing():
                staged.put()
        if self._remote is not None:
            self._remote.push(path)
        size, modified, changed, inode = stamp_of(path)
        entry = LedgerEntry(
            unit, sha256, size, output.rows, fingerprint, modified, settings, output.facts, changed, inode, _versions()
        )
        with self._committing():
            self._record(entry)
        return entry

    def withdraw(self, unit: str) -> None:
        """Remove a unit's entry, so that the unit counts as not done.

        Raises:
            LeaseLostError: If another run has begun meanwhile.
        """
        path = self._entry_path(unit)
        with self._committing():
            path.unlink(missing_ok=True)
            if self._remote is not None:
                self._remote.remove(path)

    def remove(self, unit: str) -> None:
        """Remove a unit: the entry first, then the file."""
        self.withdraw(unit)
        self.path(unit).unlink(missing_ok=True)
        if self._remote is not None:
            self._remote.remove(self.path(unit))

    def restamp(self, unit: str) -> None:
        """Record the times of a unit's file, which is known to hold the recorded bytes, such as a copy."""
        if (entry := self.entry(unit)) is not None and self._remote is None:
            _, modified, changed, inode = stamp_of(self.path(unit))
            self.update(replace(entry, modified_ns=modified, changed_ns=changed, inode=inode))

    def update(self, entry: LedgerEntry) -> None:
        """Rewrite a unit's entry, after a check of its inputs; do nothing without a lease."""
        if self._lease is not None:
            with self._committing():
                self._record(entry)

    def _record(self, entry: LedgerEntry) -> None:
        path = self._entry_path(entry.file)
        write_json(path, entry.content)
        if self._remote is not None:
            self._remote.push(path)

    def _committing(self) -> Any:
        if self._lease is None:
            raise LeaseLostError(f"{self.folder}: only a run that holds the build's lock may commit")
        return self._lease.held(self._remote)

    def _names(self) -> list[str]:
        """Return the units that have an entry."""
        names = (
            self._remote.names(self.folder) if self._remote else os.listdir(self.folder) if self.folder.is_dir() else []
        )
        return sorted(n.removesuffix(".json") for n in names if n.endswith(".json") and not n.startswith("."))

    def _entry_path(self, unit: str) -> Path:
        return self.folder / f"{unit}.json"
