"""`mlimagenet join`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import add_annotations, command, open_store, progress, say, say_json, whole

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
    parser.add_argument("--top", metavar="N", type=whole(0), default=10, help="Files to print per kind (default: 10).")


def _join(given: argparse.Namespace) -> int:
    from mlimagenet_data.annotations.join import join_images
    from mlimagenet_data.annotations.locate import open_copy

    store = open_store(given.annotations, given.split)
    images = open_copy(given.images, store)
    with progress("join", len(store) * (1 + given.sizes), " files") as advance:
        found = join_images(store, images, sizes=given.sizes, advance=advance)
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
