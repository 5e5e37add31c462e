"""Child processes for tests, forked from a server with the slow imports done; optionally set up like torchrun's."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SLOW = ["build.api", "build.run", "build.publishing.card", "datasets", "matplotlib.figure", "timm"]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(_SLOW)


def seconds_to_start() -> float:
    """Return the seconds that a child takes to start and import; few, unless other code started the server."""
    for _ in range(2):  # the first child may wait for the server
        began = time.monotonic()
        child = CONTEXT.Process(target=_import)
        child.start()
        child.join()
    return time.monotonic() - began


def _import() -> None:
    for name in _SLOW:
        __import__(name)


def as_torchrun(log: Path, target: Callable[..., int], *arguments: Any, count: int = 2) -> str:
    """Call a function in `count` processes connected by torchrun's variables; return their output, also in `log`.

    Raises:
        AssertionError: If the function returns anything but 0 in a process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [CONTEXT.Process(target=_call, args=(k, count, port, log, target, arguments)) for k in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    text = log.read_text(encoding="utf-8")
    assert [child.exitcode for child in children] == [0] * count, text[-2000:]
    return text


def _call(rank: int, count: int, port: int, log: Path, target: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.exit(target(*arguments))
