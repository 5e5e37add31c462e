"""MaskCut by our rules and by CutLER's own; `benchmarks.cutler` is its command line."""

from __future__ import annotations

import argparse
import datetime

import torch
from rich.console import Console

from benchmarks.quality_tables import between
from build.images.listing import evenly_spaced
from build.networks.embedded import EmbeddedBackbone
from build.networks.scaling import input_of
from build.ops.maskcut import maskcut
from build.ops.rounds import Regions
from mlimagenet_data.images import IMAGE_EXTENSIONS, load_image

MARK, END = "<!-- maskcut: written by `python -m benchmarks.cutler` -->\n", "<!-- end of maskcut -->\n"
_SAME = 0.9
_HEAD = (
    "| photographs | masks by CutLER's rules | with a counterpart of ours | found again with signs turned | our masks | "
    "with a counterpart of CutLER's rules |"
)
console = Console(soft_wrap=True, highlight=False)


def counterparts(one: Regions, other: Regions) -> int:
    """Return how many of the kept masks of one run have a counterpart in the other run on the same images."""
    a, b = (found.masks.flatten(2).float() for found in (one, other))
    common = a @ b.mT
    union = a.sum(2)[:, :, None] + b.sum(2)[:, None] - common
    same = (common >= _SAME * union) & one.kept[:, :, None] & other.kept[:, None]
    return int(same.any(dim=2).sum())


def measure(features: torch.Tensor, tau: float) -> list[int]:
    """Return the numbers of the table for (B, C, h, w) features, in its order."""
    how = {"tau": tau, "num_regions": 3, "min_area": 0.01, "max_iou": 0.5}
    original, turned = (maskcut(features, rules="original", sign=sign, **how) for sign in (1, -1))  # type: ignore[arg-type]
    ours = maskcut(features, **how)  # type: ignore[arg-type]
    found = [int(original.kept.sum()), counterparts(original, ours), counterparts(original, turned)]
    return [len(features), *found, int(ours.kept.sum()), counterparts(ours, original)]


def run(args: argparse.Namespace) -> list[int]:
    """Run the command with a command line, as read, and return the numbers."""
    files = sorted(file for file in args.images.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
    backbone = EmbeddedBackbone(args.image_size, torch.device("cpu"))
    chosen = evenly_spaced(files, args.count)
    features = torch.cat([backbone(input_of(backbone, load_image(file))[None]).patches for file in chosen])
    found = measure(features, args.tau)
    row = f"| {' | '.join(map(str, found))} |"
    table = f"{_HEAD}\n|{' --- |' * len(found)}\n{row}"
    console.print(table, markup=False)
    if args.docs:
        file = args.docs / "quality.md"
        about = f"Measured on {datetime.date.today()} with tau {args.tau:g} at {args.image_size} pixels."
        file.write_text(between(file.read_text(encoding="utf-8"), MARK, END, f"{about}\n\n{table}\n"), encoding="utf-8")
    return found
