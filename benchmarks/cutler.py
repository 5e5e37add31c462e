"""Compare MaskCut by our rules with CutLER's own; write the table of docs/quality.md.

    python -m benchmarks.cutler --images path/to/photographs

Both cut the same features of the embedded network, of the same photographs. A mask has a counterpart if a mask of the
other run on its photograph has an IoU of at least 0.9 with it. CutLER's rules also run with the sign of each eigenvector
turned, which solvers choose arbitrarily.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> list[int]:
    """Run the command and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="Folder of photographs.")
    parser.add_argument("--count", type=int, default=40, help="Number of photographs, evenly spaced (default: 40).")
    parser.add_argument("--image-size", type=int, default=384, help="Pixels, as in build.run (default: 384).")
    parser.add_argument("--tau", type=float, default=0.3, help="As in build.run (default: 0.3).")
    parser.add_argument("--docs", type=Path, help="Folder of documents, to write the table into docs/quality.md.")
    args = parser.parse_args(arguments)
    from benchmarks.measures.cutler import run

    return run(args)


if __name__ == "__main__":
    main()
