"""Time, memory and bytes of `mlimagenet export`.

    python -m benchmarks.exporting --rows 20000

The annotations are made up: three regions per image on a 64 x 64 grid, photographs of 375 x 500 pixels. Each export runs in
a process of its own, whose peak memory is reported, on an index that exists already. The last column scales the time to
the 1,281,167 images of ImageNet; memory is bounded if it is the same for both numbers of rows.
"""

from __future__ import annotations

import argparse

IMAGENET = 1_281_167


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="Number of rows; a quarter is measured, too.")
    parser.add_argument("--shard-images", type=int, help="Write files with at most this many images each.")
    args = parser.parse_args(arguments)
    from benchmarks.measures.exporting import measure

    print(f"{'form':<6}{'rows':>9}{'seconds':>9}{'rows/s':>8}{'peak MB':>9}{'MB':>9}{'ImageNet, min':>15}{'GB':>7}")
    for rows in (args.rows // 4, args.rows):
        for form, seconds, peak, size in measure(rows, args.shard_images):
            scale = IMAGENET / rows
            print(
                f"{form:<6}{rows:>9,}{seconds:>9.1f}{rows / seconds:>8,.0f}{peak:>9,.0f}{size:>9,.1f}"
                f"{seconds * scale / 60:>15.1f}{size * scale / 1e3:>7.1f}"
            )


if __name__ == "__main__":
    main()
