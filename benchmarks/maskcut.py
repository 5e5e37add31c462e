"""Compare MaskCut, and its eigen step alone, with the plain procedure on real or synthetic features, in one run.

    python -m benchmarks.maskcut --images path/to/photographs --grids 28 32 48 64 --json maskcut.json

For each patch grid, it measures

- the eigen step of one round against `scipy.linalg.eigh(D - W, D, subset_by_index=[1, 2])`, as in the published code;
- three rounds against the plain procedure (`build.ops.reference`), and the share of masks that match (IoU >= 0.95);
- memory, and the time to relabel 1,281,167 images at that speed.

It also measures how time grows with regions and batch size. Without --images, features are synthetic: noisy blobs of a
few directions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, help="photographs for the embedded network's features (default: synthetic features)"
    )
    parser.add_argument(
        "--grids", type=int, nargs="+", default=[28, 32, 48, 64], help="patches per side (default: 28 32 48 64)"
    )
    parser.add_argument("--count", type=int, default=24, help="number of images (default: 24)")
    parser.add_argument(
        "--agreement", type=int, default=0, help="images to compare at the first grid (default: --count)"
    )
    parser.add_argument(
        "--plain", type=int, default=6, help="images for the plain procedure at the other grids (default: 6)"
    )
    parser.add_argument("--batch", type=int, default=8, help="images per cut (default: 8)")
    parser.add_argument("--tau", type=float, default=0.3, help="as in build.run (default: 0.3)")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each measurement (default: 3)")
    parser.add_argument("--device", help="default: cuda if available, else cpu")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return its figures."""
    given = sys.argv[1:] if arguments is None else arguments
    args = parse(given)
    from benchmarks.measures.maskcut import run

    return run(given, args)


if __name__ == "__main__":
    main()
