"""Compare the cost of labels that follow the crop with other approaches, in one run.

    python -m benchmarks.loader --images path/to/imagenet --annotations mlimagenet --json loader.json

It prints samples/s relative to torchvision's ImageFolder with the same transform, in interleaved repeats with a second
ImageFolder as control; the time of labels alone; start-up time and private memory; and time and memory at 1,281,167
synthetic rows. Without --images and --annotations, it generates 300 textured images and their annotations.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="ImageNet-like folder (default: generated images)")
    parser.add_argument("--annotations", type=Path, help="dataset built for --images")
    parser.add_argument("--count", type=int, default=300, help="number of generated images (default: 300)")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 2],
        help="numbers of DataLoader workers to measure (default: 0 2)",
    )
    parser.add_argument("--repeats", type=int, default=60, help="maximum number of interleaved repeats (default: 60)")
    parser.add_argument("--passes", type=int, default=2, help="passes over all images per repeat (default: 2)")
    parser.add_argument(
        "--precision", type=float, default=0.01, help="stop once the control is within 1 +- this (default: 0.01)"
    )
    parser.add_argument("--rows", type=int, default=1_281_167, help="synthetic rows for the store (default: 1281167)")
    parser.add_argument(
        "--dense-rows", type=int, default=20_000,
        help="rows from which to extrapolate the memory of dense vectors (default: 20000)",
    )  # fmt: skip
    parser.add_argument(
        "--touch", type=int, default=100_000, help="samples read at random for the memory figures (default: 100000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(arguments)
    if (args.images is None) != (args.annotations is None):
        parser.error("--images and --annotations: give both or neither")
    if min(args.repeats, args.passes, args.rows, args.dense_rows, args.count) < 1:
        parser.error("--repeats, --passes, --rows, --dense-rows and --count must be at least 1")
    return args


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return its figures."""
    given = sys.argv[1:] if arguments is None else arguments
    args = parse(given)
    from benchmarks.measures.loader import run

    return run(given, args)


if __name__ == "__main__":
    main()
