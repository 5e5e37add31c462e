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
Write your images with whole-image targets for training. The output is a local Hugging Face dataset with one row per
image: image (its absolute path, or with --embed the file itself), labels (class indices), and target (1000 values: true
or false, or the scores). timm's unmodified train.py reads it, in releases with --task multilabel (September 2026 or
later). Targets describe the whole image, even if the training script crops it."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "materialize", _materialize, _TEXT)
    parser.epilog = "example: mlimagenet materialize path/to/imagenet out --split val"
    option = parser.add_argument
    option("root", metavar="IMAGES", type=Path, help="ImageNet folder (with train/, val/), or the split's folder.")
    option("out", metavar="OUT", type=Path, help="Folder to write. Run again with another --split to add that split.")
    option(
        "--annotations", metavar="DATASET",
        help="Dataset folder, or hf:USER/NAME on the Hub (default: $MLIMAGENET_ANNOTATIONS, else IMAGES/mlimagenet, "
        "else ./mlimagenet).",
    )  # fmt: skip
    option("--split", default="train", help="Split of the annotations, and its folder in IMAGES (default: train).")
    option(
        "--target", choices=("multi_hot", "soft"), default="multi_hot",
        help="Values of the target column: multi_hot is true or false, soft is the scores (default: multi_hot).",
    )  # fmt: skip
    option(
        "--missing", choices=("error", "skip", "single_label"), default="error",
        help="error: fail if an annotated image has no file. skip: omit the image. single_label: like error, and add "
        "images without annotations, labelled by their class folder (default: error).",
    )  # fmt: skip
    option(
        "--original", choices=("unless_gone", "as_others", "always", "if_located"), default="unless_gone",
        help="LabelPolicy rule for the original label (default: unless_gone).",
    )  # fmt: skip
    option(
        "--unlocated", choices=("spread", "keep", "drop"), default="spread",
        help="LabelPolicy rule for labels without a region; for whole images, spread and keep are the same "
        "(default: spread).",
    )  # fmt: skip
    option("--embed", action="store_true", help="Copy the image files into the dataset, so that you can move it.")


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
