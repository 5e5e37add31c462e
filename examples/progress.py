"""Progress of a loop: a bar on a terminal, otherwise a line now and then, so that log files stay short."""

from __future__ import annotations

import shutil
import sys
import time

from tqdm import tqdm

__all__ = ["Progress", "duration"]

FIRST, EVERY = 5.0, 60.0  # seconds before the first line, and between later ones


def duration(seconds: float) -> str:
    """Return a time as [H:]MM:SS."""
    return tqdm.format_interval(seconds)


class Progress:
    """Shows on stderr how many steps are done and how long the others will take.

    Args:
        text: Name of the loop.
        total: Number of steps.
        shown: Whether to show anything; of several processes, one does.
    """

    def __init__(self, text: str, total: int, *, shown: bool = True) -> None:
        self.text, self.total, self.shown = text, total, shown
        self.done, self.start = 0, time.perf_counter()
        self.next = self.start + FIRST
        self.bar = None
        if shown and sys.stderr.isatty():
            columns, lines = shutil.get_terminal_size()  # tqdm shows nothing on a terminal that has no size
            self.bar = tqdm(total=total, desc=text, leave=False, ncols=columns - 1, nrows=lines)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, note: str = "") -> None:
        """Count a step; `note` is shown beside it."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update()
        elif self.shown and (now := time.perf_counter()) >= self.next and self.done < self.total:
            self.next = now + EVERY
            left = duration((now - self.start) / self.done * (self.total - self.done))
            parts = [f"{self.text}: step {self.done}/{self.total}", *([note] if note else []), f"{left} left"]
            print(", ".join(parts), file=sys.stderr, flush=True)
