"""Locks of a build: one run at a time may write to it, or one run per part of a stage (--num-shards).

The locks are the operating system's (flock), so a lock ends with its process, however that ends. The file beside it
names the holder. For a remote output, a lock in the store (`build.state.store_lock`) also keeps out runs on other machines.

A run's workers may outlive it for a moment. So a lock alone does not allow a commit: each run also gets the next epoch,
and every commit checks, under a lock that only commits and starting runs take, that no later run has begun.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from build.config.options import ConfigError
from build.state.remote import Remote
from build.state.store_lock import holder, store_lock
from mlimagenet_data.errors import MLImageNetError, StateError
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.reading import read_json

__all__ = ["Lease", "LeaseLostError", "sole_run"]


class LeaseLostError(MLImageNetError, RuntimeError):
    """A run that may no longer commit, because another one has begun."""


@dataclass(frozen=True)
class Lease:
    """The right of one run, and of its workers, to commit. It ends when a later run begins.

    Attributes:
        folder: The folder of locks; absolute.
        name: The lock that the run holds.
        epoch: The number of the run. Later runs have higher numbers.
        key: What the run's lock in the store holds; empty for a local output.
        earlier: The earlier holder that stopped before it released the lock; empty if there is none.
    """

    folder: Path
    name: str
    epoch: int
    key: str = ""
    earlier: str = ""

    @contextmanager
    def held(self, remote: Remote | None = None) -> Iterator[None]:
        """Put files in place while the block runs: no later run can begin meanwhile (of a remote output: on this machine).

        Raises:
            LeaseLostError: If a later run has begun.
        """
        if remote is not None:
            # the working copy may be elsewhere on this machine; the store's lock decides
            place = remote.folder / Path(*self.folder.parts[-3:]) / "leases" / f"{self.name}.json"
            if (holder(remote, place) or {}).get("id") != self.key:
                raise LeaseLostError(f"another run has taken over {remote.url}; this one commits nothing more")
            yield
            return
        with _epochs(self.folder) as held:
            if held.holders.get(self.name) != self.epoch:
                raise LeaseLostError(f"another run has taken over {self.folder.parent}; this one commits nothing more")
            yield


@contextmanager
def sole_run(work: Path, part: tuple[int, int] | None = None, remote: Remote | None = None) -> Iterator[Lease]:
    """Hold a build's lock while the block runs, and yield the right to commit.

    Args:
        work: The folder of a split's intermediate results.
        part: (index, count) for a run of one part of a stage's units; None for a run that may do all.
        remote: The store of which `work` is a working copy, to keep out runs on other machines.

    Raises:
        ConfigError: If another run holds the lock; the message names it.
    """
    folder = work.resolve() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    name = "run" if part is None else f"part-{part[0]}-of-{part[1]}"
    lock = _taken(folder, name)
    try:
        for other in _others(folder, name):
            _taken(folder, other).release()
        stopped = _holder(folder, name) if (folder / f"{name}.json").exists() else ""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(folder / f"{name}.json", {"process": os.getpid(), "host": socket.gethostname(), "since": now})
        epoch = _next_epoch(folder, name)
        with _in_store(remote, folder, name) as (key, elsewhere):
            try:
                yield Lease(folder, name, epoch, key, stopped or elsewhere)
            except ConfigError:  # refused before anything was written: the next run has nothing to resume
                (folder / f"{name}.json").unlink(missing_ok=True)
                raise
        (folder / f"{name}.json").unlink(missing_ok=True)
    finally:
        lock.release()


class _Epochs(NamedTuple):
    last: int
    holders: dict[str, int]  # of the runs that may commit, by their locks


def _next_epoch(folder: Path, name: str) -> int:
    """Begin an epoch. A whole run ends the epochs of all others; a part ends those of parts of another count."""
    with _epochs(folder) as held:
        epoch = max(held.last + 1, time.time_ns())  # later than any, even if the file of epochs was damaged
        count = name.rpartition("-")[2]
        kept = {other: number for other, number in held.holders.items() if other.endswith(f"-of-{count}")}
        holders = {name: epoch} if name == "run" else {**kept, name: epoch}
        write_json(folder / "epochs.json", {"last": epoch, "holders": holders})
    return epoch


@contextmanager
def _epochs(folder: Path) -> Iterator[_Epochs]:
    """Hold the lock of the epochs, and yield the last one and those of the runs that may commit."""
    with FileLock(folder / "epochs.lock"):
        try:
            found = read_json(folder / "epochs.json") or {}
        except StateError:
            found = {}
        holders = found.get("holders")
        last = found.get("last")
        yield _Epochs(last if isinstance(last, int) else 0, holders if isinstance(holders, dict) else {})


@contextmanager
def _in_store(remote: Remote | None, folder: Path, name: str) -> Iterator[tuple[str, str]]:
    if remote is None:
        yield "", ""
        return
    folder = folder / "leases"
    parts = [file for file in remote.names(folder) if file.startswith("part-")]
    others = ["run.json"] if name != "run" else parts
    with store_lock(remote, folder / f"{name}.json", [folder / other for other in others]) as (key, was_held):
        yield key, f"a run that wrote to {remote.url}" if was_held else ""


def _others(folder: Path, name: str) -> list[str]:
    """Return the other locks that must be free: all parts' for a whole run, the whole run's for a part."""
    return ["run"] if name != "run" else sorted(path.stem for path in folder.glob("part-*.lock"))


def _taken(folder: Path, name: str) -> FileLock:
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"out: {_holder(folder, name)} is writing to {folder.parent.parent.parent}; wait for it, stop it, "
            "or choose another --out"
        ) from None
    return lock


def _holder(folder: Path, name: str) -> str:
    try:
        held = read_json(folder / f"{name}.json") or {}
    except StateError:
        held = {}
    kind = "another run" if name == "run" else f"the run of {name.replace('-', ' ')}"
    return f"{kind} (process {held.get('process', '?')} on {held.get('host', '?')}, since {held.get('since', '?')})"
