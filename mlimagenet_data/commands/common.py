"""Arguments and printing that the subcommands share."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.errors import AnnotationError, MLImageNetError, OutputError
from mlimagenet_data.files.printing import printable
from mlimagenet_data.files.single import PICTURE_MARK, check_new

if TYPE_CHECKING:
    from mlimagenet_data.annotations.store import AnnotationStore

__all__ = [
    "Run",
    "add_annotations",
    "check_outputs",
    "check_plot",
    "command",
    "fraction",
    "inputs_of",
    "nothing_readable",
    "open_store",
    "progress",
    "say",
    "say_json",
    "whole",
]

Run = Callable[[argparse.Namespace], int | None]  # returns the exit code, None for 0
_BETWEEN = 30.0  # seconds between two lines in a log
_DELAY = 1.0  # seconds without a bar on a terminal


def command(commands: Any, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """Declare a subcommand with `--json`. The first sentence of `text` is its line in `mlimagenet --help`."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=re.split(r"\.(?:\s|$)", text)[0], description=text)
    parser.add_argument("--json", action="store_true", help="Print JSON instead of text.")
    parser.set_defaults(run=run)
    return parser


def add_annotations(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that choose the annotations to read."""
    parser.add_argument("annotations", metavar="DATASET", help="Dataset folder, or hf:USER/NAME[@REVISION] on the Hub.")
    parser.add_argument("--split", default="train", help="Split to read (default: train).")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the `type` of an option that takes a whole number within bounds."""
    rule = f"a whole number from {least} {'on' if most is None else f'to {most}'}"

    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (value := int(text)) <= (value if most is None else most):
                return value
        raise argparse.ArgumentTypeError(f"{text}: must be {rule}")

    return read


def fraction(text: str) -> float:
    """Read an option that takes a number between 0 and 1."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text}: must be a number between 0 and 1")


def open_store(annotations: str, split: str) -> AnnotationStore:
    """Open annotations to work on their images; show the progress of the first opening, which indexes them.

    Raises:
        AnnotationError: If no image of the split could be read when it was annotated.
    """
    from mlimagenet_data.annotations.store import AnnotationStore

    with progress("opening", None, " rows") as advance:
        store = AnnotationStore(annotations, split, advance=advance)
    if not store.usable_rows().size:
        raise nothing_readable(annotations, split, len(store))
    return store


def nothing_readable(annotations: str, split: str, rows: int) -> AnnotationError:
    """Return the error of a command that has no image to work on."""
    why = f"none of its {rows} images could be read when they were annotated" if rows else "it has no rows"
    return AnnotationError(f"{annotations}: nothing to do in split {split}: {why}; `mlimagenet info` counts them")


def inputs_of(*given: str | Path | None) -> list[Path]:
    """Return those arguments that are files or folders here; others are absent, or datasets on the Hub."""
    return [Path(path) for path in given if path is not None and os.path.exists(path)]


def check_outputs(inputs: list[Path], *files: Path | None, picture: Path | None = None) -> None:
    """Refuse output files that could not be written later, before the work begins.

    Args:
        inputs: Files and folders that are read.
        files: The output files, None for those not wanted. They must not exist.
        picture: The output file that holds a picture of ours; an earlier one may exist.

    Raises:
        OutputError: If a file exists, overlaps an input, or is named twice.
    """
    seen: set[str] = set()
    for file in (*files, picture):
        if file is None:
            continue
        check_new(file, inputs=inputs, mark=PICTURE_MARK if file is picture else b"")
        if (place := os.path.realpath(file)) in seen:
            raise OutputError(f"{file}: named for two outputs; choose two names")
        seen.add(place)


def check_plot(file: Path | None) -> None:
    """Refuse a plot that could not be drawn later, before the work begins."""
    if file and importlib.util.find_spec("matplotlib") is None:
        raise MLImageNetError("--plot needs matplotlib: pip install 'mlimagenet-data[eval]'")


def say(*lines: str) -> None:
    """Print lines, in printable form: annotations may be untrusted."""
    print(*(printable(line, sys.stdout.encoding) for line in lines), sep="\n")


def say_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value))


@contextlib.contextmanager
def progress(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Show progress on standard error; yield a function that advances it.

    A terminal gets a bar with the time left, after a second. A log gets a line every half minute.
    """
    from tqdm import tqdm

    name = printable(what, sys.stderr.encoding)
    if not sys.stderr.isatty():
        yield _Log(name, total, unit).advance
        return
    with tqdm(total=total, desc=name, unit=unit, unit_scale=True, leave=False, delay=_DELAY) as bar:
        yield bar.update


class _Log:
    """Progress in lines."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit.strip()
        self._done, self._begin = 0, time.monotonic()
        self._last = self._begin

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last < _BETWEEN:
            return
        self._last = now
        left = ""
        if self._total and self._done:
            minutes = (now - self._begin) * (self._total - self._done) / self._done / 60
            left = f" of {self._total:,}, {max(minutes, 0):.0f} min left"
        print(f"{self._name}: {self._done:,}{left} ({self._unit})", file=sys.stderr, flush=True)
