"""Folders that this project writes, and the rule that it touches nothing else in them.

An output folder starts empty. It carries a marker, `.mlimagenet.json`, which holds the folder's kind and the names of the
files that we put there. A name enters the marker before its file appears. Only named files are ever replaced or
removed; any other file in our way is a refusal that names it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlimagenet_data.errors import OutputError, StateError
from mlimagenet_data.files.atomic import replace_folder, write_atomic, write_json
from mlimagenet_data.files.reading import read_json
from mlimagenet_data.files.single import check_apart

__all__ = ["LOCK", "MARKER", "OutputFolder", "first_foreign"]

MARKER = ".mlimagenet.json"
LOCK = ".mlimagenet.lock"
_OF_RUN = ".run-"
_OF_SYSTEMS = frozenset({"lost+found", ".DS_Store"})  # in folders that people call empty
_TEMPORARY = re.compile(r"\.(.+)\.\d+-[0-9a-f]{8}\.tmp")  # the names of `atomic_files`
_PATIENCE = 600.0  # seconds to wait for another run that rewrites shared files


class OutputFolder:
    """A folder of ours. Open it with `OutputFolder.open`.

    Attributes:
        path: The folder.
        kind: What it holds, such as `build` or `import`.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self._lock = FileLock(path / LOCK)

    @classmethod
    def open(cls, path: Path, kind: str, *, inputs: Iterable[Path] = ()) -> OutputFolder:
        """Return an output folder; create it, or mark it if it is empty.

        Args:
            path: The folder.
            kind: What it holds.
            inputs: Files and folders that are read; they must lie outside it, and it outside them.

        Raises:
            OutputError: If the folder overlaps an input, holds files that are not ours, or holds another kind of output.
            StateError: If its marker is damaged.
        """
        check_apart(path, inputs)
        if os.path.lexists(path) and not path.is_dir():
            raise OutputError(f"{path}: is not a folder; choose another output folder")
        _check_marked_or_empty(path)
        path.mkdir(parents=True, exist_ok=True)
        out = cls(path, kind)
        with out.locked():
            _check_marked_or_empty(path)
            _sweep(path, {MARKER})
            marker = out._marker()
            if marker is None:
                out._save(set())
            elif marker["kind"] != kind:
                raise OutputError(f"{path}: holds {_a(marker['kind'])}, not {_a(kind)}; choose another output folder")
        return out

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the files that several runs share, while the block reads and rewrites them. Reentrant.

        Raises:
            OutputError: If another run holds it for 10 minutes.
        """
        try:
            self._lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise OutputError(
                f"{self._lock.lock_file}: another run has held this lock for {_PATIENCE / 60:.0f} minutes; stop it first"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def sole_run(self, name: str) -> Iterator[Path]:
        """Yield an empty folder, `.run-<name>`, for the temporary files of this run; remove it at the end.

        One run at a time has the name, whatever its process or machine. What killed runs left is removed first. All
        runs of such a folder put their files in place with `install`, or under the lock.

        Raises:
            OutputError: If another run has the name.
        """
        folder = self.path / (_OF_RUN + re.sub(r"[^\w-]", "_", name))
        with self.locked():
            self.check(folder.name)
            self.sweep(self.names())
            for other in self._run_folders():
                if lock := _taken(other):
                    self._end(other, lock)
            self.claim(folder.name)
            if not (lock := _taken(folder)):
                raise OutputError(f"{folder}: another run is at work here; wait until it ends, or stop it")
        try:
            yield folder
        finally:
            with self.locked():  # so that no run takes a lock that is about to be removed
                self._end(folder, lock)

    def _run_folders(self) -> list[Path]:
        """Return the folders of live and killed runs."""
        folders = [self.path / name for name in self.names() if name.startswith(_OF_RUN) and "/" not in name]
        return sorted(folder for folder in folders if folder.is_dir() and not folder.is_symlink())

    def _end(self, folder: Path, lock: FileLock) -> None:
        lock.release()
        shutil.rmtree(folder)
        self._save(self.names() - {folder.name})

    def names(self) -> set[str]:
        """Return the names of the files that we put here, `/`-separated."""
        return set((self._marker() or {"files": []})["files"])

    def check(self, *names: str) -> None:
        """Check that files can be written.

        Raises:
            OutputError: If one of them exists and is not ours, or a link leads out of the folder.
        """
        known = self.names()
        for name in names:
            path = self._place(name)
            if name not in known and os.path.lexists(path):
                raise OutputError(
                    f"{path}: exists, and this project did not write it; move it away, or choose another output folder"
                )

    def claim(self, *names: str) -> None:
        """Name files that are about to be written.

        Raises:
            OutputError: If one of them exists and is not ours, or a link leads out of the folder.
        """
        with self.locked():
            self.check(*names)
            known = self.names()
            if not known >= set(names):
                self._save(known | set(names))

    def write(self, name: str, fill: Callable[[Path], object]) -> Path:
        """Let `fill` write a file, and put it in place atomically; return its path. It replaces an earlier one of ours.

        Raises:
            OutputError: If a file of this name exists and is not ours.
        """
        self.claim(name)
        path = self.path / name
        write_atomic(path, fill)
        return path

    def write_json(self, name: str, value: dict[str, Any]) -> Path:
        """Write a JSON file, as `write`."""
        self.claim(name)
        path = self.path / name
        write_json(path, value)
        return path

    def install(self, files: Mapping[str, Path], *, replaces: Iterable[str] = ()) -> None:
        """Move finished files into place, then remove earlier files of ours.

        Args:
            files: For each name, the file's path now, on the same disk.
            replaces: Names of the earlier files; those in `files` are replaced.

        Raises:
            OutputError: If one of the names exists and is not ours; then nothing is moved.
        """
        with self.locked():
            self.claim(*files)
            for name, source in files.items():
                self.write(name, functools.partial(os.replace, source))
            self.remove(set(replaces) - set(files))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files of ours; ignore names that are not ours, and files that are gone."""
        with self.locked():
            known = self.names()
            gone = known & set(names)
            for name in sorted(gone):
                self._place(name).unlink(missing_ok=True)
            if gone:
                self._save(known - gone)

    def sweep(self, names: Iterable[str]) -> None:
        """Remove the temporary files that killed runs left beside files of ours. No live run may be writing these."""
        by_folder: dict[Path, set[str]] = {}
        for name in self.names() & set(names):
            place = self._place(name)
            by_folder.setdefault(place.parent, set()).add(place.name)
        for folder, known in by_folder.items():
            _sweep(folder, known)

    def replace_all(self, fill: Callable[[Path], object]) -> None:
        """Let `fill` write files into a new folder, and put that in this one's place; if `fill` fails, nothing changes.

        Raises:
            OutputError: If the folder holds a file that is not ours.
        """

        def fill_and_mark(folder: Path) -> None:
            fill(folder)
            names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            OutputFolder(folder, self.kind)._save(set(names))
            self._check_all_ours()

        self._check_all_ours()
        replace_folder(self.path.resolve(), fill_and_mark)

    def _check_all_ours(self) -> None:
        if foreign := first_foreign(self.path, self.names()):
            raise OutputError(
                f"{self.path / foreign}: this project did not write it, and would have to remove it; move it away, or "
                "choose another output folder"
            )

    def _place(self, name: str) -> Path:
        """Return the path of a file of ours."""
        path = self.path / name
        if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(self.path)):
            raise OutputError(f"{path}: a link leads out of the output folder; choose another output folder")
        return path

    def _marker(self) -> dict[str, Any] | None:
        path = self.path / MARKER
        try:
            marker = read_json(path)
            if marker is not None and not _is_marker(marker):
                raise StateError("must hold a kind and a list of files")
        except StateError as error:
            reason = str(error).removeprefix(f"{path}: damaged: ").partition("; ")[0]
            raise StateError(
                f"{path}: damaged: {reason}. It names the files here that this project wrote. Choose a new output folder; a "
                "build makes it again if you delete it"
            ) from error
        return marker

    def _save(self, names: set[str]) -> None:
        write_json(self.path / MARKER, {"kind": self.kind, "files": sorted(names)})


def first_foreign(path: Path, names: Iterable[str]) -> str | None:
    """Return the first file below a folder that is not among the names; None if there is none."""
    known = {*names, MARKER, LOCK}
    for folder, folders, files in os.walk(path):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*files, *links]):
            relative = (Path(folder) / name).relative_to(path).as_posix()
            if relative not in known and name not in _OF_SYSTEMS:
                return relative
    return None


def _check_marked_or_empty(path: Path) -> None:
    if not path.is_dir() or os.path.lexists(path / MARKER):
        return
    foreign = sorted(set(os.listdir(path)) - _OF_SYSTEMS - {LOCK} - {left.name for left in _leftovers(path, {MARKER})})
    if foreign:
        raise OutputError(
            f"{path}: holds {foreign[0]!r}, which this project did not write; choose a new or empty folder as output"
        )


def _leftovers(folder: Path, names: set[str]) -> list[Path]:
    """Return the temporary files of `atomic_files` for files in a folder."""
    entries = os.listdir(folder) if folder.is_dir() else []
    return [folder / entry for entry in entries if (match := _TEMPORARY.fullmatch(entry)) and match[1] in names]


def _sweep(folder: Path, names: set[str]) -> None:
    for left in _leftovers(folder, names):
        left.unlink(missing_ok=True)


def _taken(folder: Path) -> FileLock | None:
    """Return the lock of a run's folder, acquired; None if a live run holds it."""
    if folder.is_symlink():
        raise OutputError(f"{folder}: is a link, which this project did not make; remove it")
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _is_marker(found: dict[str, Any]) -> bool:
    files = found.get("files")
    return (
        isinstance(found.get("kind"), str) and isinstance(files, list) and all(isinstance(name, str) for name in files)
    )


def _a(kind: str) -> str:
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"
