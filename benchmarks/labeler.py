"""Training of the labeler on regions in class order, as images lie on disk, and on the same regions shuffled.

    python -m benchmarks.labeler [--classes 100 300] [--regions 60] [--epochs 10]

Regions are points of a Gaussian around each class's random centre. "Best" is the accuracy of the rule that
knows the centres. The peer for speed is PyTorch's DataLoader with `shuffle=True` on the same file, with the same steps.
"""

from __future__ import annotations

import argparse


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 300], help="Default: 100 300.")
    parser.add_argument("--regions", type=int, default=60, help="Regions per class (default: 60).")
    parser.add_argument("--epochs", type=int, default=10, help="Default: 10.")
    parser.add_argument("--seed", type=int, default=0, help="Default: 0.")
    args = parser.parse_args(arguments)
    from benchmarks.measures.labeler import run

    run(args)


if __name__ == "__main__":
    main()
