"""`mlimagenet labels`."""

from __future__ import annotations

import argparse
from typing import Any

from mlimagenet_data.classes import find_class, imagenet_classes
from mlimagenet_data.commands.common import add_annotations, command, say, say_json

__all__ = ["add"]

_TEXT = """\
Find images by their labels, or count classes that co-occur. Name a CLASS by its name, WordNet id or index."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "labels", _labels, _TEXT)
    parser.epilog = "example: mlimagenet labels DATASET --class tench --with goldfish"
    add_annotations(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--class", dest="shown", metavar="CLASS", help="List images with this label.")
    which.add_argument("--pairs-with", metavar="CLASS", help="Count the classes that occur together with this one.")
    parser.add_argument(
        "--with", dest="others", metavar="CLASS", action="append", default=[],
        help="Require this class as well (repeatable).",
    )  # fmt: skip
    parser.add_argument(
        "--without", metavar="CLASS", action="append", default=[],
        help="Exclude images with this class (repeatable).",
    )  # fmt: skip
    parser.add_argument(
        "--min-score", metavar="S", type=float, default=0.0, help="Ignore labels that score less (default: 0)."
    )
    parser.add_argument("--top", metavar="N", type=int, default=20, help="Number of lines to print (default: 20).")


def _labels(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.search import Query, classes_beside, find_images
    from mlimagenet_data.annotations.shards import annotation_files
    from mlimagenet_data.annotations.store import AnnotationStore

    shown = tuple(dict.fromkeys(find_class(text) for text in (given.shown or given.pairs_with, *given.others)))
    query = Query(shown, tuple(find_class(text) for text in given.without), given.min_score)
    AnnotationStore(given.annotations, given.split)  # checks the files
    files = annotation_files(given.annotations, given.split)
    names = imagenet_classes().names
    if given.pairs_with:
        images, pairs = classes_beside(files, query)
        if given.json:
            say_json({"images": images, "classes": pairs[: given.top]})
        else:
            said = (f"{count:>8} with {names[index]}" for index, count in pairs[: given.top])
            say(f"{images:>8} images with {' and '.join(names[index] for index in shown)}", *said)
        return
    found = sorted(find_images(files, query), key=lambda image: (-min(image[1]), image[0]))
    if given.json:
        say_json({"images": len(found), "found": [{"image_id": i, "scores": s} for i, s in found[: given.top]]})
        return
    for image_id, scores in found[: given.top]:
        say(f"{image_id}  " + ", ".join(f"{names[k]} {score:.2f}" for k, score in zip(shown, scores, strict=True)))
    say(f"{len(found)} images" + (f"; showing the top {given.top}" if len(found) > given.top else ""))
