"""`mlimagenet export`."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import add_annotations, check_outputs, command, inputs_of, progress, say, say_json
from mlimagenet_data.errors import MLImageNetError

__all__ = ["add"]

_TEXT = """\
Convert annotations for other tools.

  coco        instance JSON, with masks resized to the images
  tsv         the paper's format: filename, original class, classes, scores
  csv         one line per label
  webdataset  a folder of tar files with your unmodified images, and the
              annotations of each as JSON

Fields that a format cannot hold are dropped."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "export", _export, _TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example: mlimagenet export DATASET instances.json --to coco"
    add_annotations(parser)
    parser.add_argument("out", metavar="OUT", type=Path, help="File to write; a folder for webdataset.")
    parser.add_argument("--to", choices=("coco", "tsv", "csv", "webdataset"), required=True, help="Output format.")
    parser.add_argument("--images", metavar="DIR", type=Path, help="webdataset: your copy of the images (required).")
    parser.add_argument(
        "--missing", choices=("error", "skip"), default="error",
        help="webdataset: fail on images without a file, or skip them (default: error).",
    )  # fmt: skip


def _export(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.store import AnnotationStore
    from mlimagenet_data.files.single import write_new
    from mlimagenet_data.formats.coco import write_coco
    from mlimagenet_data.formats.csv import write_csv
    from mlimagenet_data.formats.tsv import write_tsv

    if (given.to == "webdataset") != (given.images is not None):
        raise MLImageNetError("--to webdataset needs --images DIR; other formats do not take it")
    counts: dict[str, int] = {}
    if given.to == "webdataset":
        counts = _webdataset(given)
    else:
        check_outputs(inputs_of(given.annotations), given.out)
        store = AnnotationStore(given.annotations, given.split)
        write = {"coco": write_coco, "tsv": write_tsv, "csv": write_csv}[given.to]
        write_new(given.out, lambda path: counts.update(write(store, path)))
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    if given.json:
        say_json(counts)
    else:
        say(f"{given.out}: {text}")


def _webdataset(given: argparse.Namespace) -> dict[str, int]:
    """Write the shards; they appear together, and replace earlier ones of the split."""
    from mlimagenet_data.annotations.locate import ImageLocator, split_folder
    from mlimagenet_data.annotations.store import AnnotationStore
    from mlimagenet_data.files.outputs import OutputFolder
    from mlimagenet_data.formats.webdataset import write_webdataset

    folder = split_folder(given.images, given.split)
    out = OutputFolder.open(given.out, "webdataset", inputs=inputs_of(given.annotations, folder))
    earlier = [name for name in os.listdir(given.out) if re.fullmatch(rf"{re.escape(given.split)}-\d+\.tar", name)]
    out.check(*earlier)
    store = AnnotationStore(given.annotations, given.split)
    images = ImageLocator(folder, store)
    with out.sole_run(f"export-{given.split}") as scratch, progress("webdataset", len(store), " images") as advance:
        counts = write_webdataset(store, scratch, images, skip_missing=given.missing == "skip", advance=advance)
        out.install({path.name: path for path in sorted(scratch.glob("*.tar"))}, replaces=earlier)
    return counts
