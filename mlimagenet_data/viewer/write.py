"""Writing of the page: a self-contained HTML file, or a folder whose page loads thumbnails and regions on demand."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from mlimagenet_data.annotations.audit import VERDICTS
from mlimagenet_data.classes import imagenet_classes, kinds
from mlimagenet_data.files.outputs import OutputFolder
from mlimagenet_data.files.single import write_new
from mlimagenet_data.labelling.policy import MAIN_SHARE, ROUNDING, LabelPolicy
from mlimagenet_data.viewer.entries import PageEntry

__all__ = ["CHUNK", "PAGE_MARK", "write_file", "write_folder"]

CHUNK = 100  # images per script of regions in a folder
_SCRIPTS = ("labels.js", "masks.js", "crop.js", "detail.js", "search.js", "grid.js")
PAGE_MARK = '<meta name="generator" content="mlimagenet view">'  # near the start of a page


def write_file(out: Path, found: Iterable[PageEntry], policy: LabelPolicy, about: dict[str, Any]) -> int:
    """Write a self-contained HTML file; return its size in bytes.

    Args:
        out: The file; an earlier page there is replaced.
        found: The images.
        policy: Decides which labels remain in a crop.
        about: Facts for the page: `title`, `split`, `total` (number of rows), `photographs` (whether it has any).

    Raises:
        OutputError: If the file exists and is not a page.
    """
    summaries, regions = [], []
    for entry in found:
        address = "data:image/jpeg;base64," + base64.b64encode(entry.thumbnail).decode("ascii")
        summaries.append({**entry.summary, "thumbnail": address})
        regions.append(entry.regions)
    text = _page(_data(summaries, regions, policy, about), "img-src data:")
    write_new(out, lambda path: path.write_bytes(text.encode()), mark=PAGE_MARK.encode())
    return len(text.encode())


def write_folder(out: OutputFolder, found: Iterable[PageEntry], policy: LabelPolicy, about: dict[str, Any]) -> int:
    """Write a folder with `index.html`, thumbnails and scripts of regions; return its size in bytes.

    Each script holds the regions of 100 images.

    Args:
        out: The folder; an earlier page there is replaced once the new one is complete.
        found: The images.
        policy: Decides which labels remain in a crop.
        about: As for `write_file`.

    Raises:
        OutputError: If the folder holds a file that is not the page's.
    """
    sizes: list[int] = []
    out.replace_all(lambda folder: sizes.append(_fill(folder, found, policy, about)))
    return sizes[0]


def _fill(folder: Path, found: Iterable[PageEntry], policy: LabelPolicy, about: dict[str, Any]) -> int:
    (folder / "thumbnails").mkdir()
    (folder / "regions").mkdir()
    summaries, size = [], 0
    for number, part in enumerate(_parts(found)):
        for k, entry in enumerate(part, number * CHUNK):
            address = f"thumbnails/{k:06d}.jpg"
            size += (folder / address).write_bytes(entry.thumbnail)
            summaries.append({**entry.summary, "thumbnail": address})
        script = f"receiveRegions({number}, {_json([entry.regions for entry in part])});\n"
        size += (folder / "regions" / f"{number:06d}.js").write_bytes(script.encode())
    # a page opened from disk has no origin for 'self' to match
    text = _page(_data(summaries, None, policy, about), "img-src 'self' file:", "script-src 'self' file:")
    return size + (folder / "index.html").write_bytes(text.encode())


def _parts(found: Iterable[PageEntry]) -> Iterator[list[PageEntry]]:
    rest = iter(found)
    while part := list(itertools.islice(rest, CHUNK)):
        yield part


def _data(
    summaries: list[dict[str, Any]], regions: list[Any] | None, policy: LabelPolicy, about: dict[str, Any]
) -> dict[str, Any]:
    return {
        "about": about,
        "policy": {**asdict(policy), "rounding": ROUNDING, "main_share": MAIN_SHARE},
        "verdicts": VERDICTS,
        "classes": imagenet_classes().names,
        "kinds": _kinds_of(summaries),
        "chunk": CHUNK,
        "images": summaries,
        "regions": regions,
    }


def _kinds_of(summaries: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Return the kinds of the classes that the images have, each with these classes."""
    seen = {index for image in summaries for index, _ in image["labels"]} | {image["original"] for image in summaries}
    found = {name: [index for index in indices if index in seen] for name, indices in kinds().items()}
    return {name: indices for name, indices in found.items() if indices}


def _page(data: dict[str, Any], images: str, more_scripts: str = "script-src") -> str:
    """Join the page's parts. The Content Security Policy allows only this script and style, by hash."""
    script, style = "\n".join(_text(name) for name in _SCRIPTS), _text("style.css")
    rules = f"default-src 'none'; {images}; style-src {_hash(style)}; {more_scripts} {_hash(script)}"
    parts = {
        "MARK": PAGE_MARK, "RULES": html.escape(rules), "TITLE": html.escape(str(data["about"]["title"])),
        "STYLE": style, "DATA": _json(data), "SCRIPT": script,
    }  # fmt: skip
    out = []
    for k, piece in enumerate(_text("page.html").split("%%")):  # text and names alternate
        out.append(parts[piece] if k % 2 else piece)
    return "".join(out)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _json(value: Any) -> str:
    """Return ASCII JSON that can neither end a script element nor begin a comment in one."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _text(name: str) -> str:
    return resources.files("mlimagenet_data.viewer").joinpath(name).read_text(encoding="utf-8")
