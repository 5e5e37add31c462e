"""`mlimagenet export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import add_annotations, command, say, say_json

__all__ = ["add"]

_TEXT = """\
Writes annotations in a form that other tools read. coco: instance JSON with masks stretched to the images. tsv: the paper's file,
filename, original class, classes, scores. csv: a line for each label. What a form has no room for is left out."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "export", _export, _TEXT)
    add_annotations(parser)
    parser.add_argument("out", type=Path, help="The file to write.")
    parser.add_argument("--to", choices=("coco", "tsv", "csv"), required=True, help="Its form.")


def _export(given: argparse.Namespace) -> None:
    from mlimagenet_data.formats.coco import write_coco
    from mlimagenet_data.formats.tables import write_csv, write_tsv
    from mlimagenet_data.store import AnnotationStore

    write = {"coco": write_coco, "tsv": write_tsv, "csv": write_csv}[given.to]
    counts = write(AnnotationStore(given.annotations, given.split), given.out)
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    if given.json:
        say_json(counts)
    else:
        say(f"{given.out}: {text}")
