"""Write WebDataset shards: tar files that hold each image of the user's own copy and its annotations as JSON.

github.com/webdataset/webdataset defines the format: the files of a sample are adjacent and share their name up to the
first dot. Image files are copied byte for byte. Nothing else is copied: a file must lie in the image folder after all
links are resolved, must be regular, and must begin as an image of a known format does. Annotations cannot choose it.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import tarfile
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.annotations.validate import check_batch, raw_batches
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.files.atomic import write_atomic
from mlimagenet_data.files.inside import resolve_inside
from mlimagenet_data.files.reading import open_regular
from mlimagenet_data.images import IMAGE_EXTENSIONS, open_image

__all__ = ["sample_key", "write_webdataset"]

_SHARD_IMAGES = 10_000
_SHARD_BYTES = 1 << 30
_BATCH_ROWS = 1000
_EXTENSIONS = {"jpeg": ".jpg", "mpo": ".jpg"}  # by format, of files whose name has none


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
        AnnotationError: If the folder already holds shards of the split, or a row breaks the schema by now.
        ImageError: If an image is missing, or a file is not an image.
        OutsideError: If a file lies outside of the image folder.
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
            with _open(_path(images, row)) as (file, extension):
                length = os.fstat(file.fileno()).st_size
                tar.addfile(_member(key + extension, length), file)
            content = json.dumps(row, ensure_ascii=False).encode()
            tar.addfile(_member(key + ".json", len(content)), io.BytesIO(content))
            count, size, row = count + 1, size + length, next(samples, None)
    return row


def _path(images: ImageLocator, row: dict[str, Any]) -> Path:
    return resolve_inside(images.folder, images.find(row["file_name"], row["image_id"], row["label"]))


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Yield an image's file, opened once, and its extension."""
    try:
        with open_regular(path) as file:
            with open_image(file) as image:
                kind = str(image.format).lower()
            file.seek(0)
            extension = posixpath.splitext(path.name)[1].lower().replace(".jpeg", ".jpg")
            yield file, (extension if extension in IMAGE_EXTENSIONS else _EXTENSIONS.get(kind, f".{kind}"))
    except ImageError as error:
        raise ImageError(f"{path}: {str(error).partition(': ')[2]}; it is not copied", status=error.status) from error
    except OSError as error:
        reason = error.strerror or str(error).removeprefix(f"{path}: ")
        raise ImageError(f"{path}: {reason}; it is not copied", status="inaccessible") from error


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
        for first, batch in raw_batches(file, _BATCH_ROWS):
            check_batch(batch, file, first)  # again: the file may have changed since the store checked it
            for row in batch.to_pylist():
                advance(1)
                if row["status"] not in USABLE_STATUSES:
                    continue
                path = _path(images, row)
                if not path.exists():
                    if not skip_missing:
                        text = "no such file; --missing skip omits images without one"
                        raise ImageError(f"{path}: {text}", status="missing")
                    counts["missing"] += 1
                    continue
                counts["images"] += 1
                yield row
