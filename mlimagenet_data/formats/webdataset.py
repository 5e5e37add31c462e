"""Write WebDataset shards: tar files that hold each image of the user's own copy and its annotations as JSON.

github.com/webdataset/webdataset defines the format: the files of a sample are adjacent and share their name up to the
first dot. Image files are copied byte for byte.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.annotations.validate import COLUMNS
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.files.atomic import write_atomic

__all__ = ["sample_key", "write_webdataset"]

_SHARD_IMAGES = 10_000
_SHARD_BYTES = 1 << 30
_BATCH_ROWS = 1000


def write_webdataset(
    store: AnnotationStore,
    folder: Path,
    images: ImageLocator,
    *,
    skip_missing: bool = False,
    advance: Callable[[int], object] = lambda count: None,
    shard_images: int = _SHARD_IMAGES,
    shard_bytes: int = _SHARD_BYTES,
) -> dict[str, int]:
    """Write `<split>-000000.tar`, ... and return the numbers of images, shards and missing images.

    A sample is `<key>.<extension>`, the unchanged image file, and `<key>.json`, the dataset row: all columns, masks as
    COCO RLE. Images that could not be read when annotated are omitted. Equal inputs produce equal bytes.

    Args:
        store: The split's annotations, which were checked when opened.
        folder: The output folder; it must not hold shards of the split.
        images: The copy of the images.
        skip_missing: Whether to skip images without a file.
        advance: Called with 1 per row.
        shard_images: Maximum number of images per shard.
        shard_bytes: A shard is full when its images have at least this many bytes.

    Raises:
        AnnotationError: If the folder already holds shards of the split.
        ImageError: If an image is missing.
    """
    if earlier := sorted(folder.glob(f"{store.split}-*.tar")):
        raise AnnotationError(f"{folder}: already holds {earlier[0].name}; choose another folder, or move it away")
    counts = {"images": 0, "shards": 0, "missing": 0}
    samples = _samples(store, images, counts, skip_missing, advance)
    pending = next(samples, None)
    while pending is not None:
        first, pending = pending, None

        def write(path: Path, first: dict[str, Any] = first) -> None:
            nonlocal pending
            pending = _fill(path, first, samples, images, shard_images, shard_bytes)

        write_atomic(folder / f"{store.split}-{counts['shards']:06d}.tar", write)
        counts["shards"] += 1
    return counts


def sample_key(image_id: str) -> str:
    """Return the sample key of an image_id: URL-quoted, including dots, which would end the key, and a leading slash.

    No member can leave the folder that a shard is unpacked into. `urllib.parse.unquote` restores the image_id.
    """
    key = urllib.parse.quote(image_id, safe="/").replace(".", "%2E")
    return "%2F" + key[1:] if key.startswith("/") else key


def _fill(
    path: Path,
    first: dict[str, Any],
    samples: Iterator[dict[str, Any]],
    images: ImageLocator,
    most: int,
    most_bytes: int,
) -> dict[str, Any] | None:
    """Write one shard, starting with `first`; return the first row of the next one."""
    row: dict[str, Any] | None = first
    count = size = 0
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        while row is not None and count < most and size < most_bytes:
            key = sample_key(row["image_id"])
            image = _path(images, row)
            extension = image.suffix.lower().replace(".jpeg", ".jpg")
            with open(image, "rb") as file:
                length = os.fstat(file.fileno()).st_size
                tar.addfile(_member(key + extension, length), file)
            content = json.dumps(row, ensure_ascii=False).encode()
            tar.addfile(_member(key + ".json", len(content)), io.BytesIO(content))
            count, size, row = count + 1, size + length, next(samples, None)
    return row


def _path(images: ImageLocator, row: dict[str, Any]) -> Path:
    return Path(images.folder, images.find(row["file_name"], row["image_id"], row["label"]))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _samples(
    store: AnnotationStore,
    images: ImageLocator,
    counts: dict[str, int],
    skip_missing: bool,
    advance: Callable[[int], object],
) -> Iterator[dict[str, Any]]:
    """Yield the rows whose image exists."""
    for file in annotation_files(store.source, store.split):
        for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS, columns=COLUMNS):
            for row in batch.to_pylist():
                advance(1)
                if row["status"] not in USABLE_STATUSES:
                    continue
                path = _path(images, row)
                if not path.is_file():
                    if not skip_missing:
                        text = "no such file; --missing skip omits images without one"
                        raise ImageError(f"{path}: {text}", status="missing")
                    counts["missing"] += 1
                    continue
                counts["images"] += 1
                yield row
