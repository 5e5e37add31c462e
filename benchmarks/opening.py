"""Measure what the checks of an index cost: when it is built, when it is opened again, and when a record is read.

    python -m benchmarks.opening --rows 1281167 --work scratch

The annotations are made up, three regions per image. Times are of the processor (user and system) where that is stated,
so that other programs on the machine disturb them less. Opening includes `MultiLabelImageNet(...)`. Runs with and
without checks alternate.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> list[dict[str, float]]:
    """Run the benchmark and return its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="numbers of rows")
    parser.add_argument("--repeats", type=int, default=41, help="openings of each kind (default: 41)")
    parser.add_argument("--work", type=Path, help="folder to create and remove (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(arguments)
    from benchmarks.measures.opening import run

    return run(args)


if __name__ == "__main__":
    main()
