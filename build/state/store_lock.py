"""A lock in an object store, which has no locks of its own.

The lock is an object that names its holder. The holder rewrites it regularly as a sign of life.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from build.config.options import ConfigError
from build.state.remote import Remote
from mlimagenet_data.files.atomic import write_json

__all__ = ["holder", "store_lock"]

_BEAT = 60.0  # seconds between signs of life
_DEAD = 300.0  # seconds without a sign of life after which a run counts as stopped
_SETTLE = 1.0  # seconds after which one of two runs that began together has overwritten the other's lock


@contextmanager
def store_lock(remote: Remote, path: Path, others: Sequence[Path] = ()) -> Iterator[tuple[str, bool]]:
    """Hold a lock in the store while the block runs. It compares the clocks of the machines, not the store's.

    Args:
        remote: The store.
        path: The lock's file in the working copy.
        others: Other locks that must be free.

    Yields:
        The key that the lock holds as long as it is ours, and whether an earlier holder stopped without releasing it.

    Raises:
        ConfigError: If another run holds the lock.
    """
    for lock in [*others, path]:
        held = holder(remote, lock)
        if held is not None and _is_alive(held):
            raise ConfigError(_message(remote, held))
    mine, ended = uuid.uuid4().hex, threading.Event()
    _sign(remote, path, mine)
    time.sleep(_SETTLE)
    now = holder(remote, path)
    if now is None or now.get("id") != mine:
        raise ConfigError(_message(remote, now or {}))
    beating = threading.Thread(target=_beat, args=(remote, path, mine, ended), daemon=True)
    beating.start()
    try:
        yield mine, held is not None
    finally:
        ended.set()
        beating.join()
        if (holder(remote, path) or {}).get("id") == mine:  # another run may have taken it over
            remote.remove(path)


def holder(remote: Remote, path: Path) -> dict[str, Any] | None:
    """Return the holder of a lock, or None if it is free."""
    content = remote.read(path)
    if content is None:
        return None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_alive(held: dict[str, Any]) -> bool:
    if held.get("host") == socket.gethostname() and isinstance(held.get("process"), int):
        try:
            os.kill(held["process"], 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass  # another user's process
    beat = held.get("beat")
    return isinstance(beat, int | float) and time.time() - beat < _DEAD


def _sign(remote: Remote, path: Path, mine: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"process": os.getpid(), "host": socket.gethostname(), "signed": now, "beat": time.time(), "id": mine}
    write_json(path, who)
    remote.push(path)


def _beat(remote: Remote, path: Path, mine: str, ended: threading.Event) -> None:
    while not ended.wait(_BEAT):
        try:
            if (holder(remote, path) or {}).get("id") != mine:
                return  # this process slept, and another run has taken the lock over
            _sign(remote, path, mine)
        except OSError:
            continue  # the next sign will do; a run may miss five


def _message(remote: Remote, held: dict[str, Any]) -> str:
    return (
        f"out: another run (process {held.get('process', '?')} on {held.get('host', '?')}, "
        f"alive at {held.get('signed', '?')}) is writing to {remote.url}; wait for it, stop it, "
        f"or choose another --out. A run killed on another machine counts as stopped after {_DEAD / 60:.0f} minutes"
    )
