"""`mlimagenet verify`."""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from mlimagenet_data.commands.common import add_annotations, command, progress, say, say_json, whole

__all__ = ["add"]

_TEXT = """\
Check a dataset for damaged or inconsistent files. Checks every row and mask, duplicate image_ids across files, and file
sizes and hashes against the build manifest. Lists the faults and exits with 1 if there are any."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "verify", _verify, _TEXT)
    add_annotations(parser)
    parser.add_argument("--top", metavar="N", type=whole(1), default=100, help="Stop after N faults (default: 100).")


def _verify(given: argparse.Namespace) -> int:
    from mlimagenet_data.annotations.shards import annotation_files
    from mlimagenet_data.annotations.verify import faults_of

    files = annotation_files(given.annotations, given.split)
    rows = 0
    with progress("verify", None, " rows") as advance:

        def count(more: int) -> None:
            nonlocal rows
            rows += more
            advance(more)

        faults = list(itertools.islice(faults_of(files, given.split, count), given.top))
    if given.json:
        say_json({"files": len(files), "rows": rows, "faults": faults})
    elif faults:
        say(*faults, *(["stopped; there may be more: raise --top N"] if len(faults) == given.top else []))
    else:
        say(f"split {given.split}: {len(files)} files, {rows} rows: no faults")
    return 1 if faults else 0
