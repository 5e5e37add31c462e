"""What a run prints: lines that are safe whatever is in them, and a stage's progress as a bar or an occasional line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn
from rich.text import Text

from mlimagenet_data.files.printing import printable

__all__ = ["Meter", "console", "meter", "styled"]

_LINE_SECONDS = 15.0


class _PlainConsole(Console):
    """A console that prints every string as it is, since names come from strangers.

    It reads no markup and no emoji names, and replaces control characters; `styled` makes text in bold or colour.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as Rich's text: printed lines, cells and titles of tables all come through here."""
        return super().render_str(printable(text, self.encoding), **{**options, "markup": False, "emoji": False})


console = _PlainConsole()


def styled(text: str, style: str) -> Text:
    """Return text in a style of Rich's such as `bold` or `bold red`: `console.print(styled("error:", "bold red"), reason)`."""
    return Text(printable(text, console.encoding), style)


class Meter:
    """Counts the finished images of a stage; outside a terminal it prints a line every 15 seconds."""

    def __init__(self, name: str, total: int, bar: Progress | None) -> None:
        self._name, self._total, self._bar = printable(name, console.encoding), total, bar
        self._done, self._start, self._last = 0, time.monotonic(), time.monotonic()
        self._task = bar.add_task(self._name, total=total) if bar else None

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
    columns = [TextColumn("{task.description:>8}", markup=False), BarColumn(), TaskProgressColumn(),
               MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"), EtaColumn()]  # fmt: skip
    with Progress(*columns, console=console) as bar:
        yield Meter(name, total, bar)
