"""`mlimagenet export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.commands.common import add_annotations, command, progress, say, say_json
from mlimagenet_data.errors import MLImageNetError

if TYPE_CHECKING:
    from mlimagenet_data.annotations.store import AnnotationStore

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
    from mlimagenet_data.files.atomic import write_atomic
    from mlimagenet_data.formats.coco import write_coco
    from mlimagenet_data.formats.csv import write_csv
    from mlimagenet_data.formats.tsv import write_tsv

    if (given.to == "webdataset") != (given.images is not None):
        raise MLImageNetError("--to webdataset needs --images DIR; other formats do not take it")
    store = AnnotationStore(given.annotations, given.split)
    counts: dict[str, int] = {}
    if given.to == "webdataset":
        counts = _webdataset(store, given)
    else:
        write = {"coco": write_coco, "tsv": write_tsv, "csv": write_csv}[given.to]
        write_atomic(given.out, lambda path: counts.update(write(store, path)))
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    if given.json:
        say_json(counts)
    else:
        say(f"{given.out}: {text}")


def _webdataset(store: AnnotationStore, given: argparse.Namespace) -> dict[str, int]:
    from mlimagenet_data.annotations.locate import ImageLocator, split_folder
    from mlimagenet_data.formats.webdataset import write_webdataset

    images = ImageLocator(split_folder(given.images, given.split), store)
    with progress("webdataset", len(store), " images") as advance:
        return write_webdataset(store, given.out, images, skip_missing=given.missing == "skip", advance=advance)
