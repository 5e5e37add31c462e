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
Writes annotations in a form that other tools read. coco: instance JSON with masks stretched to the images. tsv: the paper's file,
filename, original class, classes, scores. csv: a line for each label. webdataset: a folder of tar files with your images, as they
are, and the annotations of each as JSON. What a form has no room for is left out."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "export", _export, _TEXT)
    add_annotations(parser)
    parser.add_argument("out", type=Path, help="The file to write; for webdataset a folder.")
    parser.add_argument("--to", choices=("coco", "tsv", "csv", "webdataset"), required=True, help="Its form.")
    parser.add_argument("--images", metavar="DIR", type=Path, help="webdataset: your copy of the images.")
    parser.add_argument(
        "--missing", choices=("error", "skip"), default="error",
        help="webdataset: what an image without a file is (default: error).",
    )  # fmt: skip


def _export(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.store import AnnotationStore
    from mlimagenet_data.files import write_atomic
    from mlimagenet_data.formats.coco import write_coco
    from mlimagenet_data.formats.csv import write_csv
    from mlimagenet_data.formats.tsv import write_tsv

    if (given.to == "webdataset") != (given.images is not None):
        raise MLImageNetError("--images DIR goes with --to webdataset, and that needs it")
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
