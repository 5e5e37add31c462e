"""`mlimagenet join`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import add_annotations, command, progress, say, say_json

__all__ = ["add"]

_TEXT = """\
Check that your copy of the images matches the annotations. Lists missing files, files without annotations and, with
--sizes, images of another size. Exits with 1 if an image is missing or has another size."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "join", _join, _TEXT)
    parser.epilog = "example: mlimagenet join DATASET path/to/imagenet --sizes"
    add_annotations(parser)
    parser.add_argument(
        "images", metavar="IMAGES", type=Path, help="Your copy of the images: the split's folder, or its parent."
    )
    parser.add_argument(
        "--sizes", action="store_true", help="Also compare image sizes; takes minutes for all of ImageNet."
    )
    parser.add_argument("--top", metavar="N", type=int, default=10, help="Files to print per kind (default: 10).")


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
        say(f"{found.matched} of {found.images} annotated images found")
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
