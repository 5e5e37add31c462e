"""Locks of a build: one run at a time may write to it, or one run per part of a stage (--num-shards).

The locks are the operating system's (flock), so a lock ends with its process, however that ends. The file beside it
names the holder. For a remote output, a lease in the store (`build.state.lease`) also keeps out runs on other machines.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from build.config.options import ConfigError
from build.state.lease import lease
from build.state.ledger import read_json, write_json
from build.state.remote import Remote

__all__ = ["sole_run"]


@contextmanager
def sole_run(work: Path, part: tuple[int, int] | None = None, remote: Remote | None = None) -> Iterator[str]:
    """Hold a build's lock while the block runs.

    Args:
        work: The folder of a split's intermediate results.
        part: (index, count) for a run of one part of a stage's units; None for a run that may do all.
        remote: The store of which `work` is a working copy, to keep out runs on other machines.

    Yields:
        The earlier holder that stopped before it released the lock; empty if there is none.

    Raises:
        ConfigError: If another run holds the lock; the message names it.
    """
    folder = work / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    name = "run" if part is None else f"part-{part[0]}-of-{part[1]}"
    lock = _taken(folder, name)
    try:
        for other in _others(folder, name):
            _taken(folder, other).release()
        stopped = _holder(folder, name) if (folder / f"{name}.json").exists() else ""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(folder / f"{name}.json", {"process": os.getpid(), "host": socket.gethostname(), "since": now})
        with _leased(remote, folder, name) as elsewhere:
            try:
                yield stopped or elsewhere
            except ConfigError:  # refused before anything was written: the next run has nothing to resume
                (folder / f"{name}.json").unlink(missing_ok=True)
                raise
        (folder / f"{name}.json").unlink(missing_ok=True)
    finally:
        lock.release()


@contextmanager
def _leased(remote: Remote | None, folder: Path, name: str) -> Iterator[str]:
    if remote is None:
        yield ""
        return
    folder = folder / "leases"
    parts = [file for file in remote.names(folder) if file.startswith("part-")]
    others = ["run.json"] if name != "run" else parts
    with lease(remote, folder / f"{name}.json", [folder / other for other in others]) as was_held:
        yield f"a run that wrote to {remote.url}" if was_held else ""


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
    except json.JSONDecodeError:
        held = {}
    kind = "another run" if name == "run" else f"the run of {name.replace('-', ' ')}"
    return f"{kind} (process {held.get('process', '?')} on {held.get('host', '?')}, since {held.get('since', '?')})"
