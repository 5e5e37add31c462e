"""Compare a copy of the images with annotations: missing files, files without annotations, and different sizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import ImageError
from mlimagenet_data.files.parquet import read_columns
from mlimagenet_data.files.walk import walk_files
from mlimagenet_data.images import image_size, is_image_name

__all__ = ["JoinReport", "join_images"]

_THREADS = 16


@dataclass(frozen=True)
class JoinReport:
    """Result of matching annotations with image files.

    Attributes:
        images: Number of rows whose image was readable when annotated.
        matched: Number of these rows whose file exists.
        missing: File names of these rows without a file, sorted.
        extra: Image files without a row, sorted.
        other_size: File names with the actual and the annotated size, or the reason why the size could not be read.
    """

    images: int
    matched: int
    missing: list[str]
    extra: list[str]
    other_size: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


def join_images(
    store: AnnotationStore,
    images: ImageLocator,
    *,
    sizes: bool = False,
    advance: Callable[[int], object] = lambda count: None,
) -> JoinReport:
    """Compare annotations with the image files of a copy. Files are opened only if `sizes` is set.

    Args:
        store: The annotations.
        images: The copy of the images.
        sizes: Also compare image sizes.
        advance: Called with 1 per file in the folder, and per size compared.

    Raises:
        AnnotationError: If a shard has been damaged since the store was opened.
    """
    columns = ["file_name", "image_id", "label", "height", "width", "status"]
    rows = pa.concat_tables(read_columns(file, columns) for file in annotation_files(store.source, store.split))
    folder, texts = Path(images.folder), (rows[name].to_pylist() for name in columns[:3])
    names = pa.array(map(images.find, *texts), pa.string())
    rows = rows.select(["height", "width", "status"]).append_column("file_name", names)
    listed = pa.array(_listed(folder, advance), pa.string())
    extra = listed.filter(pc.invert(pc.is_in(listed, value_set=rows["file_name"])))
    usable = rows.filter(pc.is_in(rows["status"], value_set=pa.array(sorted(USABLE_STATUSES))))
    unlisted = usable["file_name"].filter(pc.invert(pc.is_in(usable["file_name"], value_set=listed))).to_pylist()
    missing = [name for name in unlisted if not (folder / name).is_file()]  # others: by a second link to their folder
    matched = usable.filter(pc.invert(pc.is_in(usable["file_name"], value_set=pa.array(missing, pa.string()))))
    return JoinReport(
        usable.num_rows, matched.num_rows, sorted(missing), sorted(extra.to_pylist()),
        _other_sizes(matched, folder, advance) if sizes else [],
    )  # fmt: skip


def _listed(folder: Path, advance: Callable[[int], object]) -> Iterator[str]:
    for name, _ in walk_files(folder):
        advance(1)
        if is_image_name(name):
            yield name


def _other_sizes(rows: pa.Table, folder: Path, advance: Callable[[int], object]) -> list[str]:
    def compare(name: str, height: int | None, width: int | None) -> str:
        try:
            found = image_size(os.path.join(folder, name))
        except ImageError as error:
            return f"{name}: {error}"
        if height is None or found == (height, width):
            return ""
        return f"{name}: {found[0]} x {found[1]}, but annotated as {height} x {width} (height x width)"

    out = []
    columns = [rows[name].to_pylist() for name in ("file_name", "height", "width")]
    with ThreadPoolExecutor(_THREADS) as pool:
        for text in pool.map(compare, *columns):
            advance(1)
            out += [text] if text else []
    return sorted(out)
