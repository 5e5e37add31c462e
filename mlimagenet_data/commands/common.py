"""Arguments and printing that the subcommands share."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Run", "add_annotations", "command", "printable", "progress", "say", "say_json"]

_CONTROLS = {number: "?" for number in (*range(32), *range(127, 160)) if chr(number) not in "\t\n"}
Run = Callable[[argparse.Namespace], int | None]  # returns the exit code, None for 0


def command(commands: Any, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """Declare a subcommand with `--json`. The first sentence of `text` is its line in `mlimagenet --help`."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=re.split(r"\.(?:\s|$)", text)[0], description=text)
    parser.add_argument("--json", action="store_true", help="Print JSON instead of text.")
    parser.set_defaults(run=run)
    return parser


def add_annotations(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that choose the annotations to read."""
    parser.add_argument("annotations", metavar="DATASET", help="Dataset folder, or dataset id on the Hub (USER/NAME).")
    parser.add_argument("--split", default="train", help="Split to read (default: train).")


def say(*lines: str) -> None:
    """Print lines."""
    print(*map(printable, lines), sep="\n")


def printable(text: str) -> str:
    """Return a text with control characters except tabs and line ends replaced: annotations may be untrusted."""
    return text.translate(_CONTROLS)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value))


@contextlib.contextmanager
def progress(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on standard error if that is a terminal; yield a function that advances it."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, unit_scale=True, disable=None, leave=False) as bar:
        yield bar.update
