"""`mlimagenet import`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import command, fraction, progress, say, say_json

__all__ = ["add"]

_TEXT = """\
Convert other annotations into a dataset for the loader.

  tsv         the paper's multilabel_annotations.tsv
  published   the same as published on the Hub: Parquet with the columns filename,
              gt_index, label_indices and label_probs; a file, a folder, or
              hf:k3999/multilabel-imagenet-1k
  coco        instance JSON with ImageNet's classes as categories
  imagenet-s  a folder of semantic masks (PNG)

Stops at the first invalid line or entry and names it."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "import", _import, _TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example: mlimagenet import instances.json --from coco --out annotations"
    parser.add_argument("source", metavar="SOURCE", type=Path, help="File to convert, folder, or hf:USER/NAME.")
    parser.add_argument(
        "--from", dest="form", choices=("tsv", "published", "coco", "imagenet-s"), required=True, help="Input format."
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="Dataset folder to write.")
    parser.add_argument("--split", default="train", help="Split to write (default: train).")
    parser.add_argument(
        "--images", metavar="DIR", type=Path,
        help="Your copy of the images; records their sizes, and which files are missing or damaged.",
    )  # fmt: skip
    parser.add_argument(
        "--proposals",
        metavar="FILE.json",
        type=Path,
        help="tsv, published: COCO JSON of class-agnostic masks to turn into regions.",
    )
    parser.add_argument(
        "--region-classes", metavar="FILE.pt", type=Path, nargs="+", default=[],
        help="With --proposals: the authors' relabel_results_job_*.pt, which name its masks, so that labels follow crops.",
    )  # fmt: skip
    parser.add_argument("--classes", metavar="FILE", type=Path, help="imagenet-s: list of the set's WordNet ids.")
    parser.add_argument(
        "--min-score", metavar="X", type=fraction, default=None,
        help="tsv, published: leave out labels that score lower, the original label aside. The paper's labels are soft, and its "
        "authors count them from 0.5 on (default: 0.5; 0 keeps all).",
    )  # fmt: skip
    parser.add_argument("--skip-bad", action="store_true", help="Skip invalid lines and entries; count and list them.")


def _import(given: argparse.Namespace) -> None:
    try:
        import datasets  # noqa: F401 - the schema and the card need it later
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; pip install 'mlimagenet-data[import]'") from error
    from mlimagenet_data.formats.importing import Import, import_annotations

    is_soft = given.form in ("tsv", "published")
    least = (0.5 if is_soft else 0.0) if given.min_score is None else given.min_score
    wanted = Import(
        given.source, given.form, given.out, given.split, given.images, given.proposals, given.classes, given.skip_bad, least,
        tuple(given.region_classes),
    )  # fmt: skip
    total = given.source.stat().st_size if given.form == "tsv" and given.source.is_file() else None
    unit = "B" if given.form == "tsv" else " images"
    with progress(given.source.name, total, unit) as advance:
        split = import_annotations(wanted, advance)
    if given.json:
        say_json({key: value for key, value in split.items() if key != "note"})
        return
    imported = split["imported"]
    say(
        f"{given.out}: {split['rows']} images, {split['labels']} labels, {split['regions']} regions",
        *(f"{count:>8} {status}" for status, count in sorted(split["statuses"].items())),
        *([f"{low:>8} labels below {least:g} left out"] if (low := imported["labels_below_min_score"]) else []),
        *([f"{imported['left_out']:>8} invalid lines or entries skipped:"] if imported["left_out"] else []),
        *(f"  {message}" for message in imported["faults"][:10]),
    )
