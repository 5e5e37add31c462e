"""The list of images to relabel, kept as an Arrow table: 1.28 million images take about 200 MB."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa

from build.config.options import ConfigError
from mlimagenet_data.annotations.validate import id_hash
from mlimagenet_data.names import join_key

__all__ = ["PART_ROWS", "SCHEMA", "ImageInput", "Images", "Listing", "check_unique", "digest_of", "evenly_spaced"]

T = TypeVar("T")
SCHEMA = pa.schema([
    ("image_id", pa.string()),
    ("file_name", pa.string()),
    ("label", pa.int64()),
    ("bytes", pa.int64()),
    ("modified_ns", pa.int64()),
    ("container", pa.string()),  # path below the root of the tar or Parquet file that holds the image
    ("position", pa.int64()),  # byte offset or row in the container
])  # fmt: skip
PART_ROWS = 65_536  # rows held as Python objects at a time


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image.

    Attributes:
        image_id: `<wnid>/<path below the class folder, without extension>`; unique.
        file_name: Path below the root, `/`-separated; in a tar or Parquet file, the name there.
        label: Original class index, None without one.
        stamp: Size in bytes and modification time in ns, to detect changed files; (-1, -1) for a broken link.
        container: Path below the root of the tar or Parquet file that holds it; None for a file of its own.
        position: Byte offset in the tar file, or row in the Parquet file.
    """

    image_id: str
    file_name: str
    label: int | None
    stamp: tuple[int, int]
    container: str | None = None
    position: int = 0


class Images(Sequence[ImageInput]):
    """A sequence of images backed by a table of SCHEMA."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, images: Iterable[ImageInput]) -> Images:
        """Return the table of some images."""
        rows = [(i.image_id, i.file_name, i.label, *i.stamp, i.container, i.position) for i in images]
        columns = zip(*rows, strict=True) if rows else [[]] * len(SCHEMA)
        return cls(
            pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)
        )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> ImageInput: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageInput]: ...
    def __getitem__(self, index: int | slice) -> ImageInput | list[ImageInput]:
        if isinstance(index, int):
            place = range(len(self))[index]
            return _objects(self.table.slice(place, 1))[0]
        start, stop, step = index.indices(len(self))
        if step == 1:
            return _objects(self.table.slice(start, max(0, stop - start)))
        return _objects(self.table.take(pa.array(range(start, stop, step))))

    def __iter__(self) -> Iterator[ImageInput]:
        for start in range(0, len(self), PART_ROWS):
            yield from self[start : start + PART_ROWS]

    def take(self, places: Sequence[int]) -> Images:
        """Return the images at these places."""
        return Images(self.table.take(pa.array(places, pa.int64())))


def _objects(table: pa.Table) -> list[ImageInput]:
    columns = (table[name].to_pylist() for name in SCHEMA.names)
    return [
        ImageInput(image_id, file_name, label, (size, modified), container, position)
        for image_id, file_name, label, size, modified, container, position in zip(*columns, strict=True)
    ]


@dataclass(frozen=True)
class Listing:
    """The images below a root: a folder's sorted by path, a container's in file order.

    Attributes:
        root: The folder that file names and containers are relative to.
        images: The images.
        ignored: Number of other files, by extension.
    """

    root: Path
    images: Images
    ignored: Counter[str]


def digest_of(images: Iterable[ImageInput], *, times: bool) -> str:
    """Return the hash of images' ids, names, classes, sizes and, with `times`, modification times."""
    out = hashlib.sha256()
    for i in images:
        stamp = i.stamp if times else i.stamp[:1]
        out.update(json.dumps([i.image_id, i.file_name, i.label, *stamp, i.container, i.position]).encode())
    return out.hexdigest()


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Return `count` evenly spaced items, starting with the first; all if there are fewer."""
    count = min(count, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def check_unique(images: Images) -> Images:
    """Return the images unchanged, after checking that no two share an id.

    Raises:
        ConfigError: If two images have the same `mlimagenet_data.names.join_key`.
    """
    parts = [np.zeros(0, np.uint64)]
    for start in range(0, len(images), PART_ROWS):
        ids = images.table["image_id"].slice(start, PART_ROWS).to_pylist()
        parts.append(np.array([id_hash(join_key(image_id)) for image_id in ids], np.uint64))
    keys = np.concatenate(parts)
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if twice.size:
        first, second = min((int(order[k + 1]), int(order[k])) for k in twice.tolist())[::-1]
        one, other = images[first], images[second]
        places = [
            f"{image.container}: {image.file_name}" if image.container else image.file_name for image in (one, other)
        ]
        raise ConfigError(
            f"images: {places[0]} and {places[1]} would both be image {other.image_id}; rename or remove one"
        )
    return images
