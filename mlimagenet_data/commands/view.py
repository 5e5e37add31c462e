"""`mlimagenet view`."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.commands.common import (
    add_annotations,
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
    from mlimagenet_data.labelling.policy import LabelPolicy
    from mlimagenet_data.viewer.entries import PageEntry

__all__ = ["add"]

_TEXT = """\
Write a web page that shows images, regions and labels. Crop an image in it to see which labels remain. The viewer opens
from disk, needs no server and loads nothing from elsewhere. With --images it contains thumbnails of your images: mind
who may see them."""
_LIMITS = {True: 200, False: 2000}  # in one file, in a folder


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "view", _view, _TEXT)
    parser.epilog = "example: mlimagenet view DATASET --images path/to/imagenet --out viewer.html"
    add_annotations(parser)
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        help="Your copy of the images. Without it, the images that the dataset holds itself are shown, else masks on grey.",
    )
    parser.add_argument(
        "--out", metavar="FILE.html|FOLDER", type=Path, required=True,
        help="Self-contained HTML file, or, for more images, a folder; open its index.html.",
    )  # fmt: skip
    parser.add_argument(
        "--limit", metavar="N", type=whole(0),
        help="Maximum number of images, evenly spaced; 0 for all (default: 200 in a file, 2000 in a folder).",
    )  # fmt: skip
    parser.add_argument(
        "--thumbnail-size",
        metavar="PIXELS",
        type=whole(16, 4096),
        default=400,
        help="Longer side of a thumbnail (default: 400).",
    )
    parser.add_argument("--open", action="store_true", help="Open the page in the browser.")
    parser.add_argument(
        "--policy", metavar="NAME=VALUE", action="append", default=[],
        help="LabelPolicy setting that decides which labels a crop keeps, e.g. visibility=0.6 (repeatable).",
    )  # fmt: skip


def _view(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.locate import open_copy, split_folder
    from mlimagenet_data.annotations.shards import annotation_files
    from mlimagenet_data.viewer.entries import EmbeddedPhotographs, Photographs, entries, pick_rows

    is_file = given.out.suffix.lower() in (".html", ".htm")
    limit = _LIMITS[is_file] if given.limit is None else given.limit
    policy = _policy(given.policy)
    photographs = split_folder(given.images, given.split) if given.images else None
    write = _writer(given, is_file, inputs_of(given.annotations, photographs))
    store = open_store(given.annotations, given.split)
    rows = pick_rows(store, limit)
    title = Path(given.annotations).resolve().name if Path(given.annotations).is_dir() else given.annotations
    files = annotation_files(given.annotations, given.split)
    images: Photographs | None = open_copy(given.images, store) if given.images else None
    if images is None and EmbeddedPhotographs.are_in(files):
        images = EmbeddedPhotographs(files, store)
    about = {"title": title, "split": given.split, "total": len(store), "photographs": images is not None}
    problems: list[str] = []
    with progress("images", len(rows), " images") as advance:
        found = entries(store, rows, images, given.thumbnail_size)
        size = write(_noting(found, problems, advance), policy, about)
    page = given.out if is_file else given.out / "index.html"
    if given.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    if given.json:
        say_json({"images": len(rows), "rows": len(store), "bytes": size, "problems": problems})
        return
    say(f"{page}: {len(rows)} of {len(store)} images, {size / 1e6:.1f} MB")
    if problems:
        say(f"{len(problems)} images without a photograph; the first: {problems[0]}")


def _writer(given: argparse.Namespace, is_file: bool, inputs: list[Path]) -> Callable[..., int]:
    """Return the function that writes the page, once its place is known to be free or ours."""
    from mlimagenet_data.files.outputs import OutputFolder
    from mlimagenet_data.files.single import check_new
    from mlimagenet_data.viewer.write import PAGE_MARK, write_file, write_folder

    if not is_file:
        return functools.partial(write_folder, OutputFolder.open(given.out, "page", inputs=inputs))
    check_new(given.out, inputs=inputs, mark=PAGE_MARK.encode())
    return functools.partial(write_file, given.out)


def _noting(found: Iterator[PageEntry], problems: list[str], advance: Callable[[int], object]) -> Iterator[PageEntry]:
    for entry in found:
        advance(1)
        if entry.summary["problem"]:
            problems.append(entry.summary["problem"])
        yield entry


def _policy(settings: list[str]) -> LabelPolicy:
    """Return a LabelPolicy with NAME=VALUE settings applied."""
    from dataclasses import fields

    from mlimagenet_data.labelling.policy import LabelPolicy

    defaults = {field.name: field.default for field in fields(LabelPolicy)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in defaults:
            raise MLImageNetError(f"--policy {setting}: NAME must be one of {', '.join(defaults)}")
        try:
            values[name] = float(value) if isinstance(defaults[name], float) else value
        except ValueError as error:
            raise MLImageNetError(f"--policy {setting}: {name} must be a number") from error
    try:
        return LabelPolicy(**values)
    except ValueError as error:
        raise MLImageNetError(f"--policy: {error}") from error
