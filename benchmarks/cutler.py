"""Compare MaskCut by our rules with CutLER's own; write the table of docs/quality.md.

    python -m benchmarks.cutler --images path/to/photographs

Both cut the same features of the embedded network, of the same photographs. A mask has a counterpart if a mask of the
other run on its photograph has an IoU of at least 0.9 with it. CutLER's rules also run with the sign of each eigenvector
turned, which solvers choose arbitrarily.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.quality_tables import between
from build.images.listing import evenly_spaced
from build.networks.embedded import EmbeddedBackbone
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


def main(arguments: list[str] | None = None) -> list[int]:
    """Run the command and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="Folder of photographs.")
    parser.add_argument("--count", type=int, default=40, help="Number of photographs, evenly spaced (default: 40).")
    parser.add_argument("--image-size", type=int, default=384, help="Pixels, as in build.run (default: 384).")
    parser.add_argument("--tau", type=float, default=0.3, help="As in build.run (default: 0.3).")
    parser.add_argument("--docs", type=Path, help="Folder of documents, to write the table into docs/quality.md.")
    args = parser.parse_args(arguments)
    files = sorted(file for file in args.images.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
    backbone = EmbeddedBackbone(args.image_size, torch.device("cpu"))
    chosen = evenly_spaced(files, args.count)
    features = torch.cat([backbone(backbone.prepare(load_image(file))[None]).patches for file in chosen])
    found = measure(features, args.tau)
    row = f"| {' | '.join(map(str, found))} |"
    table = f"{_HEAD}\n|{' --- |' * len(found)}\n{row}"
    console.print(table, markup=False)
    if args.docs:
        file = args.docs / "quality.md"
        about = f"Measured on {datetime.date.today()} with tau {args.tau:g} at {args.image_size} pixels."
        file.write_text(between(file.read_text(encoding="utf-8"), MARK, END, f"{about}\n\n{table}\n"), encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
