"""Measure each choice of the build and the loader against people's labels; write docs/quality.md and docs/labels.md.

    python -m benchmarks.quality --imagenet path/to/imagenet-val --coco path/to/coco

Builds the default and every variant, compares each with the truth by `mlimagenet_data.evaluate.compare`, and replaces
the tables of the two documents. IMAGENET holds truth.json and class folders in val/, COCO holds the files of a `masks:`
truth and images/. docs/evaluation.md describes both formats.

Variants that share the default's regions take seconds and run first; the others build all of a set again. Results are
kept in the work folder, so an interrupted run goes on where it stopped, and the documents are written after each. Empty
that folder after a change to the code that no option shows.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imagenet", type=Path, required=True, help="ImageNet validation photographs with truth.json.")
    parser.add_argument("--coco", type=Path, required=True, help="COCO photographs with masks.")
    parser.add_argument("--work", type=Path, default=Path("reports/quality"),
                        help="Folder for builds and results (default: reports/quality).")  # fmt: skip
    parser.add_argument("--draws", type=int, default=2000, help="Bootstrap draws (default: 2000).")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="Folder of the documents (default: docs).")
    parser.add_argument(
        "--limit", type=int, default=0, help="Build only N images of each set, to try the command; 200 or more."
    )
    args = parser.parse_args(arguments)
    os.environ["MLIMAGENET_CACHE"] = str(args.work / "cache")
    from benchmarks.measures.quality import Measurement

    Measurement(args).run()


if __name__ == "__main__":
    main()
