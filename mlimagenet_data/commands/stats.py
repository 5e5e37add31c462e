"""`mlimagenet stats`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.commands.common import (
    add_annotations,
    check_outputs,
    check_plot,
    command,
    inputs_of,
    nothing_readable,
    progress,
    say,
    say_json,
    whole,
)

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "stats", _stats, "Count labels, regions, classes and co-occurring classes.")
    add_annotations(parser)
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="Plot the counts. Needs matplotlib.")
    parser.add_argument(
        "--pairs", metavar="N", type=whole(0), default=10, help="Number of class pairs to print (default: 10)."
    )


def _stats(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.shards import annotation_files
    from mlimagenet_data.annotations.statistics import collect, plot
    from mlimagenet_data.files.single import PICTURE_MARK, write_new

    check_plot(given.plot)
    check_outputs(inputs_of(given.annotations), picture=given.plot)
    files = annotation_files(given.annotations, given.split)
    with progress("stats", None, " rows") as advance:
        found = collect(files, advance=advance)
    if not found.readable:
        raise nothing_readable(given.annotations, given.split, found.images)
    if given.plot:
        write_new(given.plot, lambda path: plot(found, path), mark=PICTURE_MARK)
    if given.json:
        say_json(found.as_dict())
        return
    names, readable = imagenet_classes().names, found.readable
    several = sum(found.by_labels[2:])
    say(
        f"images              {found.images}, of which {found.readable} readable",
        f"labels per image    {found.labels / readable:.2f}; {100 * several / readable:.1f}% of the images have two or more",
        f"regions per image   {found.regions / readable:.2f}",
        f"classes             {sum(count > 0 for count in found.per_class)} occur as labels",
    )
    if found.with_original:
        share = 100 / found.with_original
        say(
            f"original labels     {share * found.original_among:.1f}% are among the labels, "
            f"{share * found.original_first:.1f}% have the best score"
        )
    for a, b, count in found.pairs[: given.pairs]:
        say(f"{count:>8} images with {names[a]} and {names[b]}")
