"""Time and memory of `mlimagenet import --from tsv` at ImageNet's size.

    python -m benchmarks.importing --lines 1281167

The lines are synthetic: up to five classes each, file names as in ImageNet. The import runs in a separate process,
whose peak memory is reported.
"""

from __future__ import annotations

import argparse
import json


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_281_167, help="Number of lines (default: 1281167).")
    args = parser.parse_args(arguments)
    from benchmarks.measures.importing import measure

    print(json.dumps(measure(args.lines)))


if __name__ == "__main__":
    main()
