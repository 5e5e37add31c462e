"""Columns of the published dataset (schema version 1): one row per image."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.classes import ClassTable, imagenet_classes

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

__all__ = [
    "FILE_ROWS",
    "GROUP_ROWS",
    "SCHEMA_VERSION",
    "STATUSES",
    "TRANSIENT_STATUSES",
    "USABLE_STATUSES",
    "arrow_schema",
    "features",
    "parquet_writer",
    "shard_name",
]

SCHEMA_VERSION = 1
FILE_ROWS = 200_000  # rows per Parquet file: about 160 MB with eight regions per image
GROUP_ROWS = 5_000  # rows per row group

STATUSES = {  # the index stores a status by its place here: new ones go to the end
    "ok": "regions found and labelled",
    "no_regions": "readable, but no region was kept; labels come from the whole image",
    "unreadable": "not an image, or a damaged or truncated file",
    "missing": "listed, but gone by the time it was read, or a broken symbolic link",
    "too_large": "more pixels than the decompression-bomb limit or the memory allow, or more than 2 GiB",
    "inaccessible": "could not be opened when it was read (permissions, an input/output error, a mount that is away); "
    "the next run tries again",
}
USABLE_STATUSES = frozenset({"ok", "no_regions"})  # rows with pixels to train on
TRANSIENT_STATUSES = frozenset({"missing", "inaccessible"})  # the file may be whole; the next run tries again


def features(classes: ClassTable, *, embed_images: bool = False) -> Features:
    """Return the `datasets.Features` of the published rows.

    Args:
        classes: The label space; its names become those of every ClassLabel.
        embed_images: Add an `image` column with the encoded image files.
    """
    from datasets import ClassLabel, Features, Image, List, Value

    label = ClassLabel(names=list(classes.names))
    region = {
        "mask": {"size": List(Value("int32")), "counts": Value("string")},
        "bbox": List(Value("float32")),
        "area": Value("float32"),
        "label": label,
        "score": Value("float32"),
        "topk_labels": List(label),
        "topk_scores": List(Value("float32")),
        "alignment": Value("float32"),
    }
    columns = {
        "image_id": Value("string"),
        "file_name": Value("string"),
        "label": label,
        "height": Value("int32"),
        "width": Value("int32"),
        "labels": List(label),
        "scores": List(Value("float32")),
        "regions": List(region),
        "status": Value("string"),
    }
    if embed_images:
        columns["image"] = Image()
    return Features(columns)


@lru_cache(maxsize=2)
def arrow_schema(*, embed_images: bool = False) -> pa.Schema:
    """Return the rows' Arrow schema with ImageNet's classes; cached, because `datasets` takes 15 ms to build it."""
    return features(imagenet_classes(), embed_images=embed_images).arrow_schema


def shard_name(split: str, index: int, count: int) -> str:
    """Return the file name of shard `index` of `count`, e.g. `train-00000-of-00004.parquet`."""
    return f"{split}-{index:05d}-of-{count:05d}.parquet"


def parquet_writer(path: Path, schema: Any) -> Any:
    """Return an open `pyarrow.parquet.ParquetWriter` for a shard.

    It writes zstd, the page index for the Hub's viewer, and a checksum of each page, which
    `mlimagenet_data.files.parquet` verifies.
    """
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path, schema, compression="zstd", write_page_index=True, write_page_checksum=True)
