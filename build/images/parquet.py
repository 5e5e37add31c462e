"""Parquet files as `datasets` writes image datasets: a column `image` {bytes, path} and, optionally, `label`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from build.config.options import ConfigError
from build.images.containers import check_class, check_path
from build.images.listing import ImageInput
from mlimagenet_data.names import class_of_path, image_id_of, without_root

__all__ = ["list_parquet"]


def list_parquet(root: Path, file: Path) -> Iterator[ImageInput]:
    """List the rows of a Parquet file."""
    info = os.stat(file)
    try:
        parquet = pq.ParquetFile(file)
        if "image" not in parquet.schema_arrow.names or "path" not in _fields(parquet.schema_arrow.field("image")):
            raise ConfigError(
                f"images: {file}: needs a column `image` with the fields bytes and path, as `datasets` writes it"
            )
        has_label = "label" in parquet.schema_arrow.names
        rows = parquet.read(columns=["image.path", *(["label"] if has_label else [])])
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"images: {file}: unreadable as Parquet: {error}") from error
    size = info.st_size // max(rows.num_rows, 1)  # the average image
    paths = rows["image"].combine_chunks().field("path").to_pylist()
    labels = rows["label"].to_pylist() if has_label else [None] * len(paths)
    container = file.relative_to(root).as_posix()
    for row, (path, value) in enumerate(zip(paths, labels, strict=True)):
        label = check_class(value, file, f"row {row}")
        name = path or f"{file.stem}-{row:07d}.jpg"
        name = check_path(without_root(name), file)  # some files keep their author's absolute paths
        label = class_of_path(name) if label is None else label
        yield ImageInput(image_id_of(name, label), name, label, (size, info.st_mtime_ns), container, row)


def _fields(field: pa.Field) -> list[str]:
    return [child.name for child in field.type] if pa.types.is_struct(field.type) else []
