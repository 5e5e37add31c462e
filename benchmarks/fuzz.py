"""Fuzz the readers of third-party files with damaged input.

    python -m benchmarks.fuzz --inputs 1000000 --readers clicks label_maps store

Each input is a valid file with some bytes changed, deleted, inserted or copied from elsewhere in it. For the store,
COCO and ImageNet-S, every other input is a well-formed file with odd values. A reader may return, or raise its own
error. Any other outcome, or more than a second of CPU time, is a finding: the input is saved to a folder, and the run
exits with 1. An input is reproducible from its (seed, number).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

READERS = ("clicks", "coco", "images", "imagenet_s", "label_maps", "store", "tsv")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=READERS, help="Default: all.")
    parser.add_argument("--inputs", type=int, default=10_000, help="Inputs per reader (default: 10000).")
    parser.add_argument("--seed", type=int, default=0, help="Default: 0.")
    parser.add_argument(
        "--findings",
        type=Path,
        default=Path("reports/fuzz"),
        help="Folder for the inputs of findings (default: reports/fuzz).",
    )
    args = parser.parse_args(arguments)
    from benchmarks.measures.fuzz import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
