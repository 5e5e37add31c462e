"""`mlimagenet export`."""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.commands.common import (
    add_annotations,
    check_outputs,
    command,
    inputs_of,
    open_store,
    progress,
    say,
    say_json,
    whole,
)
from mlimagenet_data.errors import MLImageNetError

if TYPE_CHECKING:
    from mlimagenet_data.annotations.store import AnnotationStore

__all__ = ["add"]

_ENDINGS = {"coco": ".json", "tsv": ".tsv", "csv": ".csv"}

_TEXT = """\
Convert annotations for other tools.

  coco        instance JSON, with masks resized to the images
  tsv         the paper's format: filename, original class, classes, scores
  csv         one line per label
  webdataset  a folder of tar files with your unmodified images, and the
              annotations of each as JSON

Fields that a format cannot hold are dropped."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "export", _export, _TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example: mlimagenet export DATASET instances.json --to coco"
    add_annotations(parser)
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="File to write; a folder with --shard-images or webdataset."
    )
    parser.add_argument("--to", choices=("coco", "tsv", "csv", "webdataset"), required=True, help="Output format.")
    parser.add_argument("--images", metavar="DIR", type=Path, help="webdataset: your copy of the images (required).")
    parser.add_argument(
        "--missing", choices=("error", "skip"), default="error",
        help="webdataset: fail on images without a file, or skip them (default: error).",
    )  # fmt: skip
    parser.add_argument(
        "--shard-images", metavar="N", type=whole(1),
        help="Make OUT a folder of files with at most N images each (default: one file; webdataset: 10000 images or 1 GiB).",
    )  # fmt: skip


def _export(given: argparse.Namespace) -> None:
    if (given.to == "webdataset") != (given.images is not None):
        raise MLImageNetError("--to webdataset needs --images DIR; other formats do not take it")
    if given.to == "webdataset":
        counts = _webdataset(given)
    elif given.shard_images:
        counts = _shards(given)
    else:
        counts = _file(given)
    if given.json:
        say_json(counts)
    else:
        main = next(iter(counts))
        said = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if n or name == main)
        say(f"{given.out}: {said}")


def _file(given: argparse.Namespace) -> dict[str, int]:
    from mlimagenet_data.files.single import write_new

    check_outputs(inputs_of(given.annotations), given.out)
    store = open_store(given.annotations, given.split)
    counts = Counter[str]()
    with progress(given.to, len(store.usable_rows()), " images") as advance:

        def fill(path: Path) -> None:
            counts.update(_writer(given.to)(store, path, advance=advance))
            _check_written(given, counts)  # before the file appears

        write_new(given.out, fill)
    return _with_unreadable(counts, store)


def _shards(given: argparse.Namespace) -> dict[str, int]:
    """Write a folder of files; they appear together, and replace earlier ones of the split."""
    from mlimagenet_data.files.outputs import OutputFolder

    ending, write = _ENDINGS[given.to], _writer(given.to)
    out = OutputFolder.open(given.out, f"{given.to} export", inputs=inputs_of(given.annotations))
    earlier = _earlier(given, rf"\d+-of-\d+{re.escape(ending)}")
    out.check(*earlier)
    store = open_store(given.annotations, given.split)
    rows, size, counts = store.usable_rows().tolist(), given.shard_images, Counter[str]()
    shards = -(-len(rows) // size)
    with out.sole_run(f"export-{given.split}") as scratch, progress(given.to, len(rows), " images") as advance:
        for k in range(shards):
            path = scratch / f"{given.split}-{k:05d}-of-{shards:05d}{ending}"
            ids = {"first_id": counts["annotations"] + 1} if given.to == "coco" else {}  # unique over all shards
            counts.update(write(store, path, rows[k * size : (k + 1) * size], advance=advance, **ids))
        _check_written(given, counts)
        out.install({path.name: path for path in sorted(scratch.glob(f"*{ending}"))}, replaces=earlier)
    return _with_unreadable(counts, store) | {"files": shards}


def _writer(form: str) -> Callable[..., dict[str, int]]:
    from mlimagenet_data.formats.coco import write_coco
    from mlimagenet_data.formats.csv import write_csv
    from mlimagenet_data.formats.tsv import write_tsv

    return {"coco": write_coco, "tsv": write_tsv, "csv": write_csv}[form]


def _check_written(given: argparse.Namespace, counts: Mapping[str, int]) -> None:
    if not counts["images"] and not counts["lines"]:
        what = "an original label, which the format requires" if given.to == "tsv" else "a label"
        raise MLImageNetError(
            f"{given.annotations}: no image of split {given.split} has {what}, so there is nothing to write as {given.to}; "
            "--to coco writes regions too"
        )


def _with_unreadable(counts: Mapping[str, int], store: AnnotationStore) -> dict[str, int]:
    return {**counts, "unreadable_images": len(store) - len(store.usable_rows())}


def _earlier(given: argparse.Namespace, numbered: str) -> list[str]:
    """Return the names of the split's files in the output folder."""
    return [name for name in os.listdir(given.out) if re.fullmatch(rf"{re.escape(given.split)}-{numbered}", name)]


def _webdataset(given: argparse.Namespace) -> dict[str, int]:
    """Write the shards; they appear together, and replace earlier ones of the split."""
    from mlimagenet_data.annotations.locate import open_copy, split_folder
    from mlimagenet_data.files.outputs import OutputFolder
    from mlimagenet_data.formats.webdataset import write_webdataset

    inputs = inputs_of(given.annotations, split_folder(given.images, given.split))
    store = open_store(given.annotations, given.split)
    images = open_copy(given.images, store)
    out = OutputFolder.open(given.out, "webdataset", inputs=inputs)
    earlier = _earlier(given, r"\d+\.tar")
    out.check(*earlier)
    options = {"shard_images": given.shard_images} if given.shard_images else {}
    with out.sole_run(f"export-{given.split}") as scratch, progress("webdataset", len(store), " images") as advance:
        counts = write_webdataset(
            store, scratch, images, skip_missing=given.missing == "skip", advance=advance, **options
        )
        if not counts["images"]:
            raise MLImageNetError(f"{images.folder}: none of {counts['missing']} annotated images is here")
        out.install({path.name: path for path in sorted(scratch.glob("*.tar"))}, replaces=earlier)
    return _with_unreadable(counts, store)
