"""The record of finished units. It commits their files so that no half-written file is ever read as complete.

A unit's file is written under a temporary name, synced and renamed. Then its entry, a small JSON file with hash, row
count and fingerprint, is written the same way. A unit is done if its entry exists and holds the fingerprint of the
current settings and inputs, and its file has the recorded size. With one entry per unit, no lock is needed and no
shared file is rewritten. For a remote output, file and entry are then copied to the store (`build.state.remote`), and
entries are read from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from build.state.remote import Remote
from mlimagenet_data.files.atomic import write_atomic, write_json
from mlimagenet_data.files.reading import file_hash

__all__ = [
    "Ledger",
    "LedgerEntry",
    "UnitOutput",
    "changed_settings",
    "read_json",
    "remove_leftovers",
    "write_atomic",
    "write_json",
]


@dataclass(frozen=True)
class LedgerEntry:
    """A committed unit.

    Attributes:
        file: Name of the unit's file.
        sha256: Hash of its bytes.
        size: Length in bytes.
        rows: Number of rows.
        fingerprint: Hash of everything that the content depends on.
        modified_ns: The file's modification time; while it and the size stay the same, the file is not hashed again.
        settings: The options that made the file, to explain a mismatch and to fill the manifest.
        facts: Counts and timings that the stage reports.
    """

    file: str
    sha256: str
    size: int
    rows: int
    fingerprint: str
    modified_ns: int
    settings: dict[str, Any]
    facts: dict[str, Any]

    def fault(self, path: Path) -> str:
        """Hash a file and return how it differs from the recorded one; empty if it does not."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return "file missing"
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


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and its subfolders."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file that `write_json` wrote, or None if there is no file."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


class Ledger:
    """The units of one stage, in one folder."""

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        self.folder = folder
        self._remote = remote

    def path(self, unit: str) -> Path:
        """Return the path of a unit's file; for a remote output, of its working copy."""
        return self.folder / unit

    def fetched(self, unit: str) -> Path:
        """Return a unit's file; fetch it from the store if the working copy does not match the unit's entry.

        Raises:
            OSError: If the store's copy does not match the entry either.
        """
        path = self.path(unit)
        entry = self.entry(unit) if self._remote else None
        if self._remote is not None and entry is not None and entry.fault(path):
            self._remote.pull(path)
            if reason := entry.fault(path):
                self._remove(self._entry_path(unit))
                raise OSError(f"{self._remote.url}: {unit}: {reason}; run the same command again to rebuild it")
        return path

    def entry(self, unit: str) -> LedgerEntry | None:
        """Return a unit's entry, or None if it is missing or unreadable."""
        path = self._entry_path(unit)
        try:
            content = self._remote.read(path) if self._remote else path.read_bytes()
            return None if content is None else LedgerEntry(**json.loads(content))
        except (FileNotFoundError, json.JSONDecodeError, TypeError, UnicodeDecodeError):
            return None

    def entries(self) -> dict[str, LedgerEntry]:
        """Return all readable entries."""
        return {name: entry for name in self._names() if (entry := self.entry(name)) is not None}

    def fault(self, entry: LedgerEntry) -> str:
        """Hash a unit's file (the store's, for a remote output) and return how it differs from the recorded one."""
        path = self.path(entry.file)
        if self._remote is None:
            return entry.fault(path)
        fetched = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._remote.pull(path, to=fetched)
            return entry.fault(fetched)
        finally:
            fetched.unlink(missing_ok=True)

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
        if path.exists() and (path.stat().st_size, path.stat().st_mtime_ns) == (entry.size, entry.modified_ns):
            return None
        return entry.fault(path) or None

    def commit(self, unit: str, fingerprint: str, settings: dict[str, Any], output: UnitOutput) -> LedgerEntry:
        """Write a unit's file and then its entry."""
        path = self.path(unit)
        self._remove(self._entry_path(unit))  # an old entry must not vouch for the new file
        write_atomic(path, output.write)
        info = path.stat()
        entry = LedgerEntry(
            unit, file_hash(path), info.st_size, output.rows, fingerprint, info.st_mtime_ns, settings, output.facts
        )
        write_json(self._entry_path(unit), asdict(entry))
        if self._remote is not None:
            self._remote.push(path)
            self._remote.push(self._entry_path(unit))
        return entry

    def remove_others(self, units: set[str]) -> None:
        """Remove units that no longer exist (the number of shards changed): the entry first, then the file."""
        for unit in self._names():
            if unit not in units:
                self._remove(self._entry_path(unit))
                self._remove(self.path(unit))

    def _names(self) -> list[str]:
        """Return the units that have an entry."""
        names = (
            self._remote.names(self.folder) if self._remote else os.listdir(self.folder) if self.folder.is_dir() else []
        )
        return sorted(n.removesuffix(".json") for n in names if n.endswith(".json") and not n.startswith("."))

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        if self._remote is not None:
            self._remote.remove(path)

    def _entry_path(self, unit: str) -> Path:
        return self.folder / f"{unit}.json"
