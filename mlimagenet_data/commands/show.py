"""`mlimagenet show`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.commands.common import add_annotations, check_outputs, command, inputs_of, progress, say, say_json
from mlimagenet_data.errors import MLImageNetError

if TYPE_CHECKING:
    from mlimagenet_data.annotations.records import Record

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "show", _show, "Print one image's labels and regions, and draw them.")
    parser.epilog = "example: mlimagenet show DATASET n01440764/n01440764_10026"
    add_annotations(parser)
    parser.add_argument("image_id", metavar="IMAGE_ID", help="image_id, such as n01440764/n01440764_10026.")
    parser.add_argument("--images", metavar="DIR", type=Path, help="Your copy of the images; needs --out.")
    parser.add_argument("--out", metavar="FILE.png", type=Path, help="Picture to write; needs --images.")


def _show(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.store import AnnotationStore

    if (given.images is None) != (given.out is None):
        raise MLImageNetError("--images DIR and --out FILE.png need each other; give both, or neither")
    if given.out is not None:
        from mlimagenet_data.annotations.locate import ImageLocator, split_folder
        from mlimagenet_data.files.single import PICTURE_MARK, write_new

        folder = split_folder(given.images, given.split)
        if not folder.is_dir():
            raise MLImageNetError(f"--images {folder}: no such folder")
        check_outputs(inputs_of(given.annotations, folder), picture=given.out)
    with progress("opening", None, " rows") as advance:
        store = AnnotationStore(given.annotations, given.split, advance=advance)
    try:
        record = store.record(store.find(given.image_id))
    except KeyError:
        example = f"; the first is {store.image_id(0)}" if len(store) else ""
        raise MLImageNetError(
            f"{given.image_id}: no image with that image_id in split {given.split!r}{example}"
        ) from None
    if given.json:
        say_json(_as_dict(record))
    else:
        _say(record)
    if given.out is not None:
        from mlimagenet_data.annotations.sheet import write_sheet
        from mlimagenet_data.images import load_image

        image = load_image(ImageLocator(folder, store).path(record))
        write_new(given.out, lambda path: write_sheet(path, [(image, record)]), mark=PICTURE_MARK)
        if not given.json:
            say(f"picture: {given.out}")


def _say(record: Record) -> None:
    names = imagenet_classes().names
    size = "size unknown" if record.size is None else f"{record.size[0]} x {record.size[1]} pixels (height x width)"
    say(
        f"{record.image_id}: {record.file_name}, {size}, {record.status}",
        f"original    {'none' if record.label is None else names[record.label]}",
        "labels      " + (", ".join(f"{names[index]} {score:.2f}" for index, score in record.labels) or "none"),
    )
    for number, region in enumerate(record.regions, 1):
        others = ", ".join(f"{names[index]} {score:.2f}" for index, score in region.topk[1:])
        grid = f"{region.mask.shape[0]} x {region.mask.shape[1]}"
        share = f"{100 * region.mask.mean():.1f}% of the image, grid {grid}"
        say(f"region {number:<4} {names[region.label]} {region.score:.2f}; {share}{'; or ' + others if others else ''}")


def _as_dict(record: Record) -> dict[str, Any]:
    from mlimagenet_data.annotations.masks import encode_mask

    return {
        "image_id": record.image_id, "file_name": record.file_name, "label": record.label, "size": record.size,
        "status": record.status, "labels": record.labels,
        "regions": [
            {
                "label": region.label, "score": region.score, "topk": region.topk, "area": float(region.mask.mean()),
                "mask": {"size": region.mask.shape, "counts": encode_mask(region.mask)},
            }
            for region in record.regions
        ],
    }  # fmt: skip
