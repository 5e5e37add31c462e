"""`mlimagenet audit`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.commands.common import add_annotations, command, say, say_json
from mlimagenet_data.errors import MLImageNetError

__all__ = ["add"]

_TEXT = """\
Rank images by how likely their labels are wrong, most suspicious first.

The ranking uses cleanlab's multi-label quality scores. Each image gets a
verdict that compares its original label with the new labels:

  agrees      the original label scores best
  weaker      the original label was seen, but another class scores better
  replaced    the original label was not seen, but another class clearly was
  unseen      the original label was not seen, and no other class clearly was
  unlabelled  the image has no original label (only with --of labels)

A class is seen at a score of at least 0.1, and clearly seen at 0.5.

Nothing is changed."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "audit", _audit, _TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example: mlimagenet audit DATASET --verdict replaced --images path/to/imagenet"
    add_annotations(parser)
    parser.add_argument(
        "--of",
        choices=("original", "labels"),
        default="original",
        help="Judge the original labels, or the new ones (default: original).",
    )
    parser.add_argument("--top", metavar="N", type=int, default=20, help="Number of images to list (default: 20).")
    parser.add_argument("--verdict", metavar="NAME", help="List only images with this verdict (default: all).")
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="Your copy of the images; the listed ones are drawn in --sheet."
    )
    parser.add_argument(
        "--sheet", metavar="FILE.png", type=Path, default=Path("audit.png"),
        help="Picture to write with --images (default: audit.png).",
    )  # fmt: skip


def _audit(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.audit import VERDICTS, audit
    from mlimagenet_data.annotations.store import AnnotationStore

    if given.verdict and given.verdict not in VERDICTS:
        raise MLImageNetError(f"--verdict {given.verdict}: must be one of {', '.join(VERDICTS)}")
    store = AnnotationStore(given.annotations, given.split)
    findings = audit(store, of=given.of)
    counts = Counter(finding.verdict for finding in findings)
    listed = [f for f in findings if given.verdict in (None, f.verdict)][: given.top]
    if given.json:
        say_json({"counts": counts, "findings": [finding.as_dict() for finding in listed]})
    else:
        say(*(f"{counts[name]:>8} {name}: {text}" for name, text in VERDICTS.items() if counts[name]), "")
        names = imagenet_classes().names
        for f in listed:
            original = "-" if f.original is None else f"{names[f.original]} {f.original_score:.2f}"
            labels = ", ".join(f"{names[index]} {score:.2f}" for index, score in f.labels[:4])
            say(f"{f.quality:.3f} {f.verdict:<8} {f.image_id}: original {original}; labels {labels}")
    if given.images and listed:
        from mlimagenet_data.annotations.locate import ImageLocator, split_folder
        from mlimagenet_data.images import load_image
        from mlimagenet_data.viewer.sheet import write_sheet

        records = [store.record(f.row) for f in listed]
        locator = ImageLocator(split_folder(given.images, given.split), store)
        write_sheet(given.sheet, [(load_image(locator.path(r)), r) for r in records])
        if not given.json:
            say(f"picture sheet: {given.sheet}")
