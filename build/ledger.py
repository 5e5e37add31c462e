"""Records which units of work are done, and commits their files so that nothing half-written is ever read as whole.

A unit's file is written under a temporary name, synced and renamed; then its entry, a small JSON file with hash, row count and
fingerprint, is written the same way. A unit is done when its entry exists, carries the fingerprint of today's settings and
inputs, and the file has the size it names. One entry a unit needs no lock and no rewriting of a common file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlimagenet_data.files import file_hash, write_atomic, write_json

__all__ = [
    "Entry",
    "Ledger",
    "Output",
    "changed_settings",
    "read_json",
    "remove_leftovers",
    "write_atomic",
    "write_json",
]


@dataclass(frozen=True)
class Entry:
    """A committed unit.

    Attributes:
        file: Name of the unit's file.
        sha256: Hash of its bytes.
        size: Length in bytes.
        rows: Number of rows.
        fingerprint: Hash of all that the content depends on.
        modified_ns: The file's modification time: while it and the size are the same, the file is not hashed again.
        settings: The options it was made with, so that a mismatch can be explained and the manifest tells the truth.
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
        """Hash a file, and say how it differs from what was written; empty if it does not."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return "its file is gone"
        if size != self.size:
            return f"its file has {size} bytes, {self.size} were written"
        return "" if file_hash(path) == self.sha256 else "its file is not what was written"


@dataclass(frozen=True)
class Output:
    """A computed unit: `write` puts it into a file; `facts` are the counts and timings to report."""

    rows: int
    facts: dict[str, Any]
    write: Callable[[Path], object]


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say which settings differ, and how; empty if none does."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return ", ".join(f"{name} was {old.get(name)}, is {new.get(name)}" for name in names)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files below a folder that processes left behind which were killed."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file that `write_json` wrote, None if it is not there."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


class Ledger:
    """The units of one stage, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, unit: str) -> Path:
        """Return where a unit's file lies."""
        return self.folder / unit

    def entry(self, unit: str) -> Entry | None:
        """Return a unit's entry, or None if it has none that can be read."""
        try:
            return Entry(**json.loads(self._entry_path(unit).read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError, UnicodeDecodeError):
            return None

    def entries(self) -> dict[str, Entry]:
        """Return all entries that can be read."""
        names = sorted(path.name.removesuffix(".json") for path in self.folder.glob("*.json"))
        return {name: entry for name in names if (entry := self.entry(name)) is not None}

    def why_not_done(self, unit: str, fingerprint: str, settings: dict[str, Any]) -> str | None:
        """Return None if a unit is done, else the reason why it must be done."""
        entry = self.entry(unit)
        if entry is None:
            return "not done yet"
        if entry.fingerprint != fingerprint:
            changes = changed_settings(entry.settings, settings)
            return f"changed: {changes}" if changes else "inputs changed"
        path = self.path(unit)
        if path.exists() and (path.stat().st_size, path.stat().st_mtime_ns) == (entry.size, entry.modified_ns):
            return None
        return entry.fault(path) or None

    def commit(self, unit: str, fingerprint: str, settings: dict[str, Any], output: Output) -> Entry:
        """Write a unit's file and then its entry."""
        path = self.path(unit)
        self._entry_path(unit).unlink(missing_ok=True)  # an old entry must not vouch for the new file
        write_atomic(path, output.write)
        info = path.stat()
        entry = Entry(
            unit, file_hash(path), info.st_size, output.rows, fingerprint, info.st_mtime_ns, settings, output.facts
        )
        write_json(self._entry_path(unit), asdict(entry))
        return entry

    def remove_others(self, units: set[str]) -> None:
        """Remove units that no longer exist (the number of shards changed): the entry first, then the file."""
        for path in self.folder.glob("*.json"):
            unit = path.name.removesuffix(".json")
            if unit not in units:
                path.unlink()
                self.path(unit).unlink(missing_ok=True)

    def _entry_path(self, unit: str) -> Path:
        return self.folder / f"{unit}.json"
