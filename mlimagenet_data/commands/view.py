"""`mlimagenet view`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.commands.common import add_annotations, command, say, say_json
from mlimagenet_data.errors import MLImageNetError

if TYPE_CHECKING:
    from mlimagenet_data.labelling.policy import LabelPolicy
    from mlimagenet_data.viewer.entries import PageEntry

__all__ = ["add"]

_TEXT = """\
Writes a web page to look at images, regions and labels, and at what is left of them in a crop. It opens from a disk, needs no
server and loads nothing from elsewhere. With --images it holds small copies of the photographs: mind who may see them."""
_LIMITS = {True: 200, False: 2000}  # in one file, in a folder


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "view", _view, _TEXT)
    add_annotations(parser)
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="Your copy of the images. Without it, the page shows masks on grey."
    )
    parser.add_argument(
        "--out", metavar="FILE.html|FOLDER", type=Path, required=True,
        help="One file with all in it, or, for more images, a folder to open the index.html of.",
    )  # fmt: skip
    parser.add_argument(
        "--limit", metavar="N", type=int,
        help="Images at most, evenly spaced; 0 for all (default: 200 in a file, 2000 in a folder).",
    )  # fmt: skip
    parser.add_argument(
        "--thumbnail-size", metavar="PIXELS", type=int, default=400, help="Longer side of a picture (default: 400)."
    )
    parser.add_argument(
        "--policy", metavar="NAME=VALUE", action="append", default=[],
        help="What counts as present in a crop, as LabelPolicy has it (visibility=0.6); may be given several times.",
    )  # fmt: skip


def _view(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.locate import ImageLocator, split_folder
    from mlimagenet_data.annotations.store import AnnotationStore
    from mlimagenet_data.viewer.entries import entries, pick_rows
    from mlimagenet_data.viewer.write import write_file, write_folder

    is_file = given.out.suffix.lower() in (".html", ".htm")
    limit = _LIMITS[is_file] if given.limit is None else given.limit
    policy = _policy(given.policy)
    _check(given, limit)
    store = AnnotationStore(given.annotations, given.split)
    rows = pick_rows(store, limit)
    if not rows:
        raise MLImageNetError(f"{given.annotations}: no image of split {given.split} could be read; nothing to view")
    title = Path(given.annotations).resolve().name if Path(given.annotations).is_dir() else given.annotations
    about = {"title": title, "split": given.split, "total": len(store), "photographs": given.images is not None}
    problems: list[str] = []
    images = given.images and ImageLocator(split_folder(given.images, given.split), store)
    found = _noting(entries(store, rows, images, given.thumbnail_size), problems)
    out = Path(os.path.abspath(given.out))
    out.parent.mkdir(parents=True, exist_ok=True)
    size = (write_file if is_file else write_folder)(out, found, policy, about)
    if given.json:
        say_json({"images": len(rows), "rows": len(store), "bytes": size, "problems": problems})
        return
    page = given.out if is_file else given.out / "index.html"
    say(f"{page}: {len(rows)} of {len(store)} images, {size / 1e6:.1f} MB")
    if problems:
        say(f"{len(problems)} of them without a photograph; the first: {problems[0]}")


def _noting(found: Iterator[PageEntry], problems: list[str]) -> Iterator[PageEntry]:
    for entry in found:
        if entry.summary["problem"]:
            problems.append(entry.summary["problem"])
        yield entry


def _check(given: argparse.Namespace, limit: int) -> None:
    if limit < 0:
        raise MLImageNetError(f"--limit {limit}: it must be 0 or more")
    if not 16 <= given.thumbnail_size <= 4096:
        raise MLImageNetError(f"--thumbnail-size {given.thumbnail_size}: it must be 16 to 4096 pixels")
    if given.images is not None and not given.images.is_dir():
        raise MLImageNetError(f"--images {given.images}: no such folder")


def _policy(settings: list[str]) -> LabelPolicy:
    """Return the LabelPolicy of NAME=VALUE settings."""
    from dataclasses import fields

    from mlimagenet_data.labelling.policy import LabelPolicy

    defaults = {field.name: field.default for field in fields(LabelPolicy)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in defaults:
            raise MLImageNetError(f"--policy {setting}: the names are {', '.join(defaults)}")
        try:
            values[name] = float(value) if isinstance(defaults[name], float) else value
        except ValueError as error:
            raise MLImageNetError(f"--policy {setting}: {name} is a number") from error
    try:
        return LabelPolicy(**values)
    except ValueError as error:
        raise MLImageNetError(f"--policy: {error}") from error
