"""Time and memory of importing the forms that the paper's authors publish, at any size up to ImageNet's.

    python -m benchmarks.importing --lines 1281167
    python -m benchmarks.importing --lines 1281167 --form published
    python -m benchmarks.importing --lines 20000 60000 --masks 3

All is synthetic: up to five classes a line, file names as in ImageNet. With --masks, COCO JSON of that many masks an image
at the photographs' size, and the files that name them, are imported, too. Each import runs in a process of its own, whose
peak memory is reported.
"""

from __future__ import annotations

import argparse
import json


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lines", type=int, nargs="+", default=[1_281_167], help="Numbers of lines (default: 1281167)."
    )
    parser.add_argument(
        "--form", choices=("tsv", "published"), default="tsv", help="Form of the labels (default: tsv)."
    )
    parser.add_argument("--masks", type=int, default=0, help="Masks per image (default: 0).")
    args = parser.parse_args(arguments)
    from benchmarks.measures.importing import measure

    for lines in args.lines:
        print(json.dumps(measure(lines, form=args.form, masks=args.masks)))


if __name__ == "__main__":
    main()
