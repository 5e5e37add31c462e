"""`mlimagenet labels`."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

from mlimagenet_data.classes import class_of_folder, imagenet_classes, kinds, match_classes
from mlimagenet_data.commands.common import (
    add_annotations,
    command,
    fraction,
    open_store,
    progress,
    say,
    say_json,
    whole,
)
from mlimagenet_data.errors import MLImageNetError

__all__ = ["add"]

_TEXT = """\
Find images by their labels, or count classes that co-occur. Name a CLASS by its name, WordNet id or index. A part of a name,
or a kind of thing that WordNet knows (dog, vehicle), stands for any of its classes."""


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
        "--min-score", metavar="S", type=fraction, default=0.0, help="Ignore labels that score less (default: 0)."
    )
    parser.add_argument("--top", metavar="N", type=whole(0), default=20, help="Number of lines to print (default: 20).")


def _labels(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.search import Query, classes_beside, find_images, has_labels
    from mlimagenet_data.annotations.shards import annotation_files

    shown = tuple(_classes(text) for text in (given.shown or given.pairs_with, *given.others))
    not_shown = tuple(index for text in given.without for index in _classes(text))
    query = Query(shown, not_shown, given.min_score)
    store = open_store(given.annotations, given.split)  # checks the files
    files = annotation_files(given.annotations, given.split)
    if not has_labels(files):
        raise MLImageNetError(f"{given.annotations}: no image of split {given.split} has a label to search for")
    names = imagenet_classes().names
    if given.pairs_with:
        with progress("labels", len(store), " rows") as advance:
            images, pairs = classes_beside(files, query, advance)
        if given.json:
            say_json({"images": images, "classes": pairs[: given.top]})
        else:
            said = (f"{count:>8} with {names[index]}" for index, count in pairs[: given.top])
            say(f"{images:>8} images with {' and '.join(_group_name(group) for group in shown)}", *said)
        return
    with progress("labels", len(store), " rows") as advance:
        found = sorted(find_images(files, query, advance), key=lambda one: (-min(score for _, score in one[1]), one[0]))
    if given.json:
        listed = [
            {"image_id": image_id, "classes": [k for k, _ in best], "scores": [score for _, score in best]}
            for image_id, best in found[: given.top]
        ]
        say_json({"images": len(found), "found": listed})
        return
    for image_id, best in found[: given.top]:
        say(f"{image_id}  " + ", ".join(f"{names[k]} {score:.2f}" for k, score in best))
    say(f"{len(found)} images" + (f"; showing the top {given.top}" if len(found) > given.top else ""))


def _classes(text: str) -> tuple[int, ...]:
    """Return the classes that an argument stands for.

    Raises:
        MLImageNetError: If there are none; the message suggests names.
    """
    index = class_of_folder(text)
    found = tuple(match_classes(text)) if index is None else (index,)
    if not found:
        alike = difflib.get_close_matches(text.lower(), [*imagenet_classes().names, *kinds()], n=4, cutoff=0.6)
        hint = f"; did you mean {', '.join(dict.fromkeys(alike))}?" if alike else ""
        raise MLImageNetError(f"{text!r} names no class: by name, WordNet id, index or kind{hint}")
    return found


def _group_name(group: tuple[int, ...]) -> str:
    names = imagenet_classes().names
    return names[group[0]] if len(group) == 1 else f"one of {len(group)} classes ({names[group[0]]}, ...)"
