"""Memory for what is known to be large before it is read: it waits for others to finish, or is refused.

Without this, one photograph of declared 170 million pixels takes the memory that the rest of the process needs, and under
the limit of a container, the system then kills the process instead of raising MemoryError.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_memory", "room_for"]

_SMALL = 1 << 27  # bytes that nobody asks for
_GROUPS = (  # of Linux's control groups, versions 2 and 1: limit, use, statistics
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
     "/sys/fs/cgroup/memory/memory.stat"),
)  # fmt: skip


class _Taken:
    """What the threads of this process are using at the moment."""

    def __init__(self) -> None:
        self.changed, self.bytes = threading.Condition(), 0


_taken = _Taken()


def _forget() -> None:
    """In a forked process, the other threads are gone."""
    global _taken  # noqa: PLW0603 - the process's memory is one
    _taken = _Taken()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def room_for(needed: int) -> Iterator[None]:
    """Wait until `needed` bytes are at most half of what this process may still take, and count them during the block.

    Raises:
        MemoryError: If they are more although nobody else holds any.
    """
    if needed <= _SMALL:
        yield
        return
    taken = _taken
    with taken.changed:
        while 2 * needed > available_memory() - taken.bytes:
            if not taken.bytes:
                raise MemoryError(f"{needed} bytes are more than half of the memory that is left")
            taken.changed.wait()
        taken.bytes += needed
    try:
        yield
    finally:
        with taken.changed:
            taken.bytes -= needed
            taken.changed.notify_all()


def available_memory() -> float:
    """Return the bytes that this process may still take, by the machine, its container and its own limit; inf if unknown."""
    return min(_left_on_machine(), _left_in_container(), _left_by_limit())


def _left_on_machine() -> float:
    return 1024 * _field("/proc/meminfo", "MemAvailable:")


def _left_in_container() -> float:
    for limit, used, statistics in _GROUPS:
        most, now = _number(limit), _number(used)
        if math.isfinite(most + now):
            files = (_field(statistics, name) for name in ("inactive_file", "active_file"))  # given back when needed
            return most - now + sum(size for size in files if math.isfinite(size))
    return math.inf


def _left_by_limit() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if most == resource.RLIM_INFINITY else most - 1024 * _field("/proc/self/status", "VmSize:")


def _number(path: str) -> float:
    try:
        return float(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


def _field(path: str, name: str) -> float:
    """Return the number after a name at the start of a line; inf without one."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) for line in lines if line.split()[:1] == [name]), math.inf)
