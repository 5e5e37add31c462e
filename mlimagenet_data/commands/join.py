"""`mlimagenet join`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import add_annotations, command, progress, say, say_json

__all__ = ["add"]

_TEXT = """\
Checks that a copy of the images goes with annotations: files that are missing, files without annotations, and other sizes. Exits
with 1 if an image is missing or, with --sizes, has another size."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "join", _join, _TEXT)
    add_annotations(parser)
    parser.add_argument(
        "images", metavar="IMAGES", type=Path, help="The images: the split's folder, or the one above it."
    )
    parser.add_argument(
        "--sizes", action="store_true", help="Read each image's size, too: minutes for all of ImageNet."
    )
    parser.add_argument("--top", metavar="N", type=int, default=10, help="Files of each kind to print (default: 10).")


def _join(given: argparse.Namespace) -> int:
    from mlimagenet_data.annotations.join import join_images
    from mlimagenet_data.annotations.locate import split_folder
    from mlimagenet_data.annotations.store import AnnotationStore

    store = AnnotationStore(given.annotations, given.split)  # checks the files
    with progress("sizes", len(store) if given.sizes else None, " images") as advance:
        found = join_images(store, split_folder(given.images, given.split), sizes=given.sizes, advance=advance)
    if given.json:
        say_json(found.as_dict())
    else:
        say(f"{found.matched} of {found.images} annotated images are there")
        for kind, rows in (
            ("missing", found.missing),
            ("without annotations", found.extra),
            ("of another size", found.other_size),
        ):
            if rows:
                more = f"  and {len(rows) - given.top} more"
                say(
                    f"{len(rows)} {kind}:",
                    *(f"  {text}" for text in rows[: given.top]),
                    *([more] * (len(rows) > given.top)),
                )
    return 1 if found.missing or found.other_size else 0
