"""`mlimagenet materialize`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import command, say, say_json
from mlimagenet_data.errors import MLImageNetError

__all__ = ["add"]

_TEXT = """\
Writes whole-image targets beside your own images, as a local Hugging Face dataset. One row per image: the image (its absolute
path, or with --embed the file itself), labels (class indices), and target (1000 values: true or false, or the scores). timm's
train.py reads it unmodified, in releases with --task multilabel (September 2026 or later). Targets are those of the whole image,
whatever the script crops."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "materialize", _materialize, _TEXT)
    option = parser.add_argument
    option("root", metavar="IMAGES", type=Path, help="The ImageNet folder (with train/, val/), or the split's folder.")
    option(
        "out", metavar="OUT", type=Path, help="The folder to write. Run again with another --split to add that split."
    )
    option(
        "--annotations", metavar="DATASET",
        help="The dataset's folder or Hub id (default: $MLIMAGENET_ANNOTATIONS, else IMAGES/mlimagenet, else ./mlimagenet).",
    )  # fmt: skip
    option("--split", default="train", help="The split, in the annotations and as a folder in IMAGES (default: train).")
    option(
        "--target", choices=("multi_hot", "soft"), default="multi_hot",
        help="What the column target holds: whether the class is there, or its score (default: multi_hot).",
    )  # fmt: skip
    option(
        "--missing", choices=("error", "skip", "single_label"), default="error",
        help="error: fail if an annotated image has no file. skip: leave it out. single_label: like error, and add images "
        "without annotations, with their class folder as the only label (default: error).",
    )  # fmt: skip
    option(
        "--original", choices=("as_others", "always", "if_located"), default="as_others",
        help="LabelPolicy's rule for the original label (default: as_others).",
    )  # fmt: skip
    option(
        "--unlocated", choices=("spread", "keep", "drop"), default="spread",
        help="LabelPolicy's rule for labels that no region shows; spread and keep are the same for whole images "
        "(default: spread).",
    )  # fmt: skip
    option("--embed", action="store_true", help="Copy the image files into the dataset, so that it can be moved.")


def _materialize(given: argparse.Namespace) -> None:
    from mlimagenet_data.labelling.policy import LabelPolicy
    from mlimagenet_data.materialize import materialize

    policy = LabelPolicy(original=given.original, unlocated=given.unlocated)
    names = ("annotations", "split", "target", "missing", "embed")
    options = {name: getattr(given, name) for name in names}
    try:
        rows = materialize(given.root, given.out, **options, policy=policy, progress=True)
    except MLImageNetError:
        raise
    except ValueError as error:
        raise MLImageNetError(str(error)) from error
    train = _timm_command(given)
    if given.json:
        say_json({"rows": rows, "split": given.split, "timm": train})
    else:
        say(f"{given.out}: {rows} images of split {given.split}. To train timm on it:", f"  {train}")


def _timm_command(given: argparse.Namespace) -> str:
    """Return the command line of timm's train.py for the splits in the folder."""
    from mlimagenet_data.classes import NUM_CLASSES
    from mlimagenet_data.materialize import splits_in

    splits = splits_in(given.out)
    train = "train" if "train" in splits else splits[0]
    other = next((split for split in splits if split != train), "''")
    column = "labels" if given.target == "multi_hot" else "target --target-format multihot"
    return (
        f"python train.py --dataset {shlex.quote(f'hfds/{given.out}')} --train-split {train} --val-split {other} "
        f"--task multilabel --num-classes {NUM_CLASSES} --target-key {column}"
    )
