"""Compare views with the pixels that random transforms really return.

    python -m benchmarks.geometry --outputs 20000

Each image holds its own coordinates: red is x, green is y, and blue is full, where borders and erased parts are black. A
random transform runs natively, without this package, and followed, with the same random states. The output is wrong if its
pixels or the random states afterwards differ; or if pixels of three random regions, known by the coordinates that they
hold, are not where the view says, or the visible part or its area differ. Refusals are counted by part. A refusal of a class of
torchvision's or timm's is a finding, and so is any other error. Findings are reproducible by their number.
"""

from __future__ import annotations

import argparse
import sys

FAMILIES = ("Pillow", "tensor", "timm", "v1", "v2")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=2000, help="Outputs to judge (default: 2000).")
    parser.add_argument("--first", type=int, default=0, help="Number of the first transform (default: 0).")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES, help="Default: all.")
    args = parser.parse_args(arguments)
    from benchmarks.measures.geometry import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
