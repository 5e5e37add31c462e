"""Measure a build of many images without its networks: listing files, regions, labels and publish, by number of rows.

    python -m benchmarks.scale --rows 10000 100000 1281167 --work scratch

The build's own stages run in separate processes. Labels and publish start from made-up regions, features and masks,
three regions per image; at 1,281,167 rows the features take 13 GB of disk. The regions stage also runs alone, on hard
links to a small photograph, with a network that does nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[10_000, 100_000],
        help="Numbers of images, ascending (default: 10000 100000).",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir(), "mlimagenet-scale"),
        help="Folder to create and remove afterwards (default: mlimagenet-scale in the system's temporary folder).",
    )
    parser.add_argument("--json", type=Path, help="Also write the figures to this file.")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    from benchmarks.measures.scale import run

    run(args)


if __name__ == "__main__":
    main()
