"""How many CPUs this process may use: its affinity and its container's quota, not the machine's number of cores."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["available_cpus"]

_CGROUPS = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Return the number of CPUs that this process may use, at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    return max(1, math.ceil(min(cpus, _quota(_CGROUPS, Path("/proc/self/cgroup")))))


def _quota(root: Path, own: Path) -> float:
    """Return the smallest CPU quota of a process's control groups, in CPUs; infinity without one.

    Args:
        root: Where the kernel shows control groups.
        own: The process's groups, a line each: `0::/path` (version 2), `4:cpu,cpuacct:/path` (version 1).
    """
    found = [math.inf]
    for line in _text(own).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            base = root
        elif "cpu" in controllers.split(","):
            base = root / "cpu"
        else:
            continue
        group = base / path.strip("/")
        for folder in [group, *group.parents]:  # within a container the group itself may be the root
            if folder == base.parent:
                break
            found.append(_quota_of(folder))
    return min(found)


def _quota_of(folder: Path) -> float:
    quota, period = [*_text(folder / "cpu.max").split(), "max", ""][:2]  # version 2: "200000 100000" or "max 100000"
    if quota == "max":
        quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    try:
        return int(quota) / int(period) if int(quota) > 0 else math.inf  # version 1: -1 is none
    except (ValueError, ZeroDivisionError):
        return math.inf


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
