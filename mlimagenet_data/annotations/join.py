"""Compares a copy of the images with annotations: which files are missing, which have none, which have another size."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import AnnotationsNotFoundError, ImageError
from mlimagenet_data.files import walk_files
from mlimagenet_data.images import IMAGE_EXTENSIONS, image_size

__all__ = ["JoinReport", "join_images"]

_THREADS = 16


@dataclass(frozen=True)
class JoinReport:
    """What of annotations and images belongs together.

    Attributes:
        images: Rows whose image could be read when it was annotated.
        matched: Those of them whose file is there.
        missing: File names of the others, sorted.
        extra: Image files that no row names, sorted.
        other_size: File names with what is there and what the annotations say, or why a size could not be read.
    """

    images: int
    matched: int
    missing: list[str]
    extra: list[str]
    other_size: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return all values."""
        return asdict(self)


def join_images(
    store: AnnotationStore,
    folder: Path,
    *,
    sizes: bool = False,
    advance: Callable[[int], object] = lambda count: None,
) -> JoinReport:
    """Compare annotations with the image files below a folder. It is listed; files are opened for `sizes` only.

    Args:
        store: The annotations.
        folder: The copy of the images, with files named in any way that `mlimagenet_data.names` knows.
        sizes: Whether to compare sizes, too.
        advance: Called with 1 for each size.

    Raises:
        AnnotationsNotFoundError: If there is no such folder.
    """
    if not folder.is_dir():
        raise AnnotationsNotFoundError(f"{folder}: no such folder")
    columns = ["file_name", "image_id", "label", "height", "width", "status"]
    rows = pa.concat_tables(
        pq.read_table(file, columns=columns) for file in annotation_files(store.source, store.split)
    )
    locator, texts = ImageLocator(folder, store), (rows[name].to_pylist() for name in columns[:3])
    names = pa.array(map(locator.find, *texts), pa.string())
    rows = rows.select(["height", "width", "status"]).append_column("file_name", names)
    listed = pa.array((n for n, _ in walk_files(folder) if n.lower().endswith(IMAGE_EXTENSIONS)), pa.string())
    extra = listed.filter(pc.invert(pc.is_in(listed, value_set=rows["file_name"])))
    usable = rows.filter(pc.is_in(rows["status"], value_set=pa.array(sorted(USABLE_STATUSES))))
    there = pc.is_in(usable["file_name"], value_set=listed)
    matched = usable.filter(there)
    missing = usable["file_name"].filter(pc.invert(there))
    return JoinReport(
        usable.num_rows, matched.num_rows, sorted(missing.to_pylist()), sorted(extra.to_pylist()),
        _other_sizes(matched, folder, advance) if sizes else [],
    )  # fmt: skip


def _other_sizes(rows: pa.Table, folder: Path, advance: Callable[[int], object]) -> list[str]:
    def compare(name: str, height: int | None, width: int | None) -> str:
        try:
            found = image_size(os.path.join(folder, name))
        except ImageError as error:
            return f"{name}: {error}"
        if height is None or found == (height, width):
            return ""
        return f"{name}: {found[0]} x {found[1]}, the annotations are of {height} x {width} (height x width)"

    out = []
    columns = [rows[name].to_pylist() for name in ("file_name", "height", "width")]
    with ThreadPoolExecutor(_THREADS) as pool:
        for text in pool.map(compare, *columns):
            advance(1)
            out += [text] if text else []
    return sorted(out)
