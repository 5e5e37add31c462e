"""Page entries: annotations and photographs of each image, in the form that the page reads."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mlimagenet_data.annotations.audit import verdict_of
from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.masks import MAX_CELLS
from mlimagenet_data.annotations.records import MaskStack, Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.images import load_image
from mlimagenet_data.viewer.sheet import draw_regions

__all__ = ["PageEntry", "entries", "pick_rows"]

_GREY = (128, 128, 132)
_FLATTEST = 8  # maximum ratio of a thumbnail's longer to its shorter side, whatever the image's shape


class PageEntry(NamedTuple):
    """One image on the page.

    Attributes:
        summary: Data of the grid and its filters: id, file, size, original class, labels, verdict, and why a photograph
            is missing.
        regions: Data of each region for the dialog: grid, COCO RLE counts, label, score, top-k.
        thumbnail: A JPEG file.
    """

    summary: dict[str, Any]
    regions: list[dict[str, Any]]
    thumbnail: bytes


def pick_rows(store: AnnotationStore, limit: int) -> list[int]:
    """Return at most `limit` evenly spaced rows whose image was readable when annotated; 0 returns all."""
    rows: list[int] = store.usable_rows().tolist()
    count = min(limit or len(rows), len(rows))
    return [rows[k * len(rows) // count] for k in range(count)]


def entries(
    store: AnnotationStore, rows: Sequence[int], images: ImageLocator | None, thumbnail_size: int
) -> Iterator[PageEntry]:
    """Yield one entry per row.

    Args:
        store: The annotations.
        rows: Rows to show.
        images: The split's images; None draws masks on grey. An unreadable photograph, or one whose size differs from the
            annotations, is replaced by grey as well, and its entry states the problem.
        thumbnail_size: Maximum longer side of a thumbnail in pixels.
    """
    for row in rows:
        record = store.record(row)
        problem = None
        try:
            photograph = None if images is None else _photograph(images.path(record), record, thumbnail_size)
        except (ImageError, AnnotationError) as error:
            photograph, problem = None, str(error)
        if images is not None and problem is not None:
            problem = problem.removeprefix(f"{images.folder}/")
        shown = photograph or _without_photograph(record, thumbnail_size)
        yield PageEntry(_summary(record, problem), _regions(record), _jpeg(shown))


def _summary(record: Record, problem: str | None) -> dict[str, Any]:
    return {
        "id": record.image_id,
        "file": record.file_name,
        "size": record.size or (1, 1),
        "original": record.label,
        "labels": record.labels,
        "regions": len(record.best),
        "verdict": verdict_of(record),
        "problem": problem,
    }


def _regions(record: Record) -> list[dict[str, Any]]:
    codes = {k: (stack.grid, code) for stack in record.stacks for k, code in _codes(stack)}
    return [
        {"grid": codes[k][0], "counts": codes[k][1], "label": label, "score": score, "topk": topk}
        for k, ((label, score), topk) in enumerate(zip(record.best, record.topk, strict=True))
    ]


def _codes(stack: MaskStack) -> Iterator[tuple[int, str]]:
    """Yield each region's position and compressed COCO RLE counts, made from its runs without decoding a mask."""
    from pycocotools import mask as coco_mask

    height, width = stack.grid
    columns, rows = stack.ends.astype(np.int64)
    edges = [2 * pair for pair in stack.pairs] + [rows.size]
    for place, k in enumerate(stack.regions):
        part = slice(edges[place], edges[place + 1])
        runs = np.diff(columns[part] * height + rows[part], prepend=0)
        if runs.size > 1 and runs[-1] == 0:
            runs = runs[:-1]  # an empty last run
        code = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
        yield k, code["counts"].decode("ascii")


def _photograph(path: str, record: Record, size: int) -> Image.Image:
    image = load_image(path)
    if record.size != (image.height, image.width):
        raise AnnotationError(f"{path}: {image.height} x {image.width} pixels, but {record.size} in the annotations")
    shown = _thumbnail_size(record.size, min(size, max(record.size)))
    return image.resize(shown, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _without_photograph(record: Record, size: int) -> Image.Image:
    grey = Image.new("RGB", _thumbnail_size(record.size or (1, 1), size), _GREY)
    cells = sum(len(stack.regions) * stack.grid[0] * stack.grid[1] for stack in record.stacks)
    return draw_regions(grey, record) if cells <= MAX_CELLS else grey  # larger masks would take too much memory


def _thumbnail_size(image_size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a thumbnail's (width, height) for an image of (height, width) pixels."""
    scale, least = longest / max(image_size), -(-longest // _FLATTEST)
    return max(least, round(scale * image_size[1])), max(least, round(scale * image_size[0]))


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=84, optimize=True)
    return out.getvalue()
