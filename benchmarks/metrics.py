"""Time and memory of exact average precision and of a whole report, beside scikit-learn; 50,000 images, 1000 classes.

    python -m benchmarks.metrics [--images 50000] [--json metrics.json]

Scores are random, of three kinds: float32 with hardly any ties, rounded to 1/100 (hundreds of ties per class), and
softmax probabilities of random logits. An image has 1.23 positive classes on average, as in ReaL labels. Each
measurement runs in a separate process; its memory is the peak above that of the arrays.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000, help="Number of images (default: 50000).")
    parser.add_argument("--json", type=Path, help="Write all figures to this file.")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    from benchmarks.measures.metrics import run

    run(given)


if __name__ == "__main__":
    main()
