"""Progress of a stage: a bar with ETA in a terminal, an occasional line in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn

__all__ = ["Meter", "console", "meter"]

console = Console(highlight=False, soft_wrap=True)
_LINE_SECONDS = 15.0


class Meter:
    """Counts the finished images of a stage; outside a terminal it prints a line every 15 seconds."""

    def __init__(self, name: str, total: int, bar: Progress | None) -> None:
        self._name, self._total, self._bar = name, total, bar
        self._done, self._start, self._last = 0, time.monotonic(), time.monotonic()
        self._task = bar.add_task(name, total=total) if bar else None

    def advance(self, count: int) -> None:
        """Count `count` more images."""
        self._done += count
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)
        elif time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            left = (self._last - self._start) / self._done * (self._total - self._done)
            console.print(f"{self._name}: {self._done}/{self._total}, about {left:.0f} s left")


@contextmanager
def meter(name: str, total: int) -> Iterator[Meter]:
    """Show the progress of `total` images while the block runs."""
    if not console.is_terminal:
        yield Meter(name, total, None)
        return
    columns = [TextColumn("{task.description:>8}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn("ETA"), EtaColumn()]  # fmt: skip
    with Progress(*columns, console=console) as bar:
        yield Meter(name, total, bar)
