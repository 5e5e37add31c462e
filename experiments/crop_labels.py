"""Test whether labels that follow the crop help: several methods train small networks on scenes with known objects.

    python -m experiments.crop_labels --images path/to/imagenet-sample

All methods share the crops, the network and the number of steps. Each method's learning rate is chosen on separate
scenes. Every seed draws new scenes, crops and weights. Writes the tables of docs/experiments.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

KINDS = ["scratch", "features"]


def main() -> None:
    """Run the comparison and write its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="Labelled photographs to cut objects from, in class folders below train/.",
    )
    parser.add_argument("--work", type=Path, default=Path("reports/crop_labels"), help="Folder for scenes and results.")
    parser.add_argument("--seeds", type=int, default=5, help="Repeats, each with new scenes, crops and weights.")
    parser.add_argument("--classes", type=int, default=20, help="Objects to cut out, each of its own class.")
    parser.add_argument("--scenes", type=int, default=600, help="Training scenes.")
    parser.add_argument("--test-scenes", type=int, default=300, help="Scenes to measure the networks on.")
    parser.add_argument("--crops", type=int, default=10, help="Crops per scene.")
    parser.add_argument("--passes", type=int, default=6, help="Passes over the crops.")
    parser.add_argument(
        "--threads", type=int, default=1, help="PyTorch threads; they change the last digits of results."
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="Networks to train.")
    parser.add_argument("--no-built", action="store_true", help="Skip the methods that train on the build's labels.")
    parser.add_argument("--out", type=Path, default=Path("docs/experiments.md"), help="File to write the tables to.")
    args = parser.parse_args()
    from experiments.comparison import compare  # PyTorch takes seconds, so only after the options were read

    compare(args)


if __name__ == "__main__":
    main()
