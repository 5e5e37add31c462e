"""Page entries: annotations and photographs of each image, in the form that the page reads."""

from __future__ import annotations

import io
import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image

from mlimagenet_data.annotations.audit import verdict_of
from mlimagenet_data.annotations.masks import MAX_CELLS
from mlimagenet_data.annotations.records import MaskStack, Record
from mlimagenet_data.annotations.sheet import draw_regions
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.files.parquet import open_parquet, read_batches
from mlimagenet_data.images import load_image

__all__ = ["EmbeddedPhotographs", "PageEntry", "Photographs", "entries", "pick_rows"]

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


class Photographs(Protocol):
    """Where the page's photographs come from: an `ImageLocator`, or the dataset itself."""

    folder: str

    def path(self, record: Record) -> str | BinaryIO:
        """Return an image's file."""


class EmbeddedPhotographs:
    """Image files that a dataset holds itself, in the column `image` of its shards. Asked in the order of rows.

    Args:
        files: The shards.
        store: The annotations of the same shards.
    """

    folder = ""

    def __init__(self, files: Sequence[Path], store: AnnotationStore) -> None:
        self._store = store
        self._rows = enumerate(_embedded(files))

    @staticmethod
    def are_in(files: Sequence[Path]) -> bool:
        """Return whether shards hold image files."""
        return "image" in open_parquet(files[0]).schema_arrow.names

    def path(self, record: Record) -> BinaryIO:
        """Return an image's file."""
        wanted = self._store.find(record.image_id)
        content = next(content for row, content in self._rows if row == wanted)
        if content is None:
            raise AnnotationError(f"{record.image_id}: the dataset does not hold this image")
        return io.BytesIO(content)


def _embedded(files: Sequence[Path]) -> Iterator[bytes | None]:
    for file in files:
        for _, batch in read_batches(file, ["image"], 64):
            for value in batch.column("image").to_pylist():
                yield None if value is None else value["bytes"]


def entries(
    store: AnnotationStore, rows: Sequence[int], images: Photographs | None, thumbnail_size: int
) -> Iterator[PageEntry]:
    """Yield one entry per row, in order; threads make the next ones.

    Args:
        store: The annotations.
        rows: Rows to show.
        images: The split's images; None draws masks on grey. An unreadable photograph, or one whose size differs from the
            annotations, is replaced by grey as well, and its entry states the problem.
        thumbnail_size: Maximum longer side of a thumbnail in pixels.
    """
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[PageEntry]] = deque()
        for row in rows:
            record = store.record(row)
            try:
                source: Any = None if images is None else images.path(record)
            except AnnotationError as error:
                source = error
            running.append(pool.submit(_entry, record, source, images.folder if images else "", thumbnail_size))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _entry(record: Record, source: Any, folder: str, thumbnail_size: int) -> PageEntry:
    photograph = problem = None
    try:
        if isinstance(source, AnnotationError):
            raise source
        photograph = None if source is None else _photograph(source, record, thumbnail_size)
    except (ImageError, AnnotationError) as error:
        problem = str(error).removeprefix(f"{folder}/")
    shown = photograph or _without_photograph(record, thumbnail_size)
    return PageEntry(_summary(record, problem), _regions(record), _jpeg(shown))


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
    edges, all_ends = itertools.pairwise(stack.starts), stack.ends
    for place, (k, (start, stop)) in enumerate(zip(stack.regions, edges, strict=True)):
        ends = all_ends[start:stop] - place * height * width
        shown = np.diff(ends, prepend=0) > 0  # empty runs split long ones
        shown[0] = True
        of_object, ends = np.flatnonzero(shown) % 2, ends[shown]
        runs = np.diff(ends[np.append(np.diff(of_object) != 0, True)], prepend=0)
        code = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
        yield k, code["counts"].decode("ascii")


def _photograph(source: str | BinaryIO, record: Record, size: int) -> Image.Image:
    image = load_image(source)
    if record.size != (image.height, image.width):
        name = source if isinstance(source, str) else record.image_id
        raise AnnotationError(f"{name}: {image.height} x {image.width} pixels, but {record.size} in the annotations")
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
