"""Lists the images to relabel: which files, under which stable id, with which original label.

The list is a table, so that 1.28 million images take some 200 MB and not a gigabyte.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from build.config.options import ConfigError
from mlimagenet_data.annotations.validate import id_hash
from mlimagenet_data.classes import class_of_folder
from mlimagenet_data.files import walk_files
from mlimagenet_data.images import IMAGE_EXTENSIONS
from mlimagenet_data.names import class_of_path, image_id_of, join_key

T = TypeVar("T")

__all__ = ["SCHEMA", "ImageInput", "Images", "Listing", "check_unique", "digest_of", "evenly_spaced", "list_folder"]

SCHEMA = pa.schema([
    ("image_id", pa.string()),
    ("file_name", pa.string()),
    ("label", pa.int64()),
    ("bytes", pa.int64()),
    ("modified_ns", pa.int64()),
    ("container", pa.string()),  # of an image in a tar or Parquet file: its path below the root
    ("position", pa.int64()),  # where it lies in there: the byte, or the row
])  # fmt: skip
_PART = 65_536  # rows that are Python objects at a time


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image.

    Attributes:
        image_id: `<wnid>/<path below the class folder, without extension>`; unique.
        file_name: Path below the root, `/`-separated; of an image in a tar or Parquet file its name there.
        label: Original class index, None where there is none.
        stamp: Size in bytes and modification time in ns, to notice a changed file; (-1, -1) for a broken link.
        container: Path below the root of the tar or Parquet file that it lies in; None for a file of its own.
        position: The byte in the tar file, or the row in the Parquet file.
    """

    image_id: str
    file_name: str
    label: int | None
    stamp: tuple[int, int]
    container: str | None = None
    position: int = 0


class Images(Sequence[ImageInput]):
    """The rows of a table of SCHEMA, made into objects when they are asked for."""

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
        for start in range(0, len(self), _PART):
            yield from self[start : start + _PART]

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
    """The images below a root, sorted by container and file name.

    Attributes:
        root: Folder that file names and containers are relative to.
        images: The images.
        ignored: Number of files of other kinds, by extension.
    """

    root: Path
    images: Images
    ignored: Counter[str]


def digest_of(images: Iterable[ImageInput], *, times: bool) -> str:
    """Return the hash of images' ids, names, classes, sizes and, if asked for, modification times."""
    out = hashlib.sha256()
    for i in images:
        stamp = i.stamp if times else i.stamp[:1]
        out.update(json.dumps([i.image_id, i.file_name, i.label, *stamp, i.container, i.position]).encode())
    return out.hexdigest()


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, evenly spaced from the first one on; all, if there are no more."""
    count = min(count, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def list_folder(root: Path, *, unlabelled: bool) -> tuple[Images, Counter[str]]:
    """List the image files below a folder, and count other files.

    Raises:
        ConfigError: If a folder names no class, or two files would share an image_id.
    """
    ignored: Counter[str] = Counter()
    names: list[str] = []
    sizes, times = array("q"), array("q")
    for name, (size, modified) in _walk(root, ignored):
        names.append(name)
        sizes.append(size)
        times.append(modified)
    files = pa.table(
        {"file_name": pa.array(names, pa.string()), "bytes": pa.array(sizes), "modified_ns": pa.array(times)}
    )
    del names
    files = files.sort_by("file_name")
    ids, labels = [], []
    for start in range(0, files.num_rows, _PART):
        part = files["file_name"].slice(start, _PART).to_pylist()
        known = [None if unlabelled else _label(root, name) for name in part]
        ids.append(pa.array([image_id_of(name, unlabelled=unlabelled) for name in part], pa.string()))
        labels.append(pa.array(known, pa.int64()))
    columns = {
        "image_id": pa.chunked_array(ids, pa.string()), "file_name": files["file_name"],
        "label": pa.chunked_array(labels, pa.int64()), "bytes": files["bytes"], "modified_ns": files["modified_ns"],
        "container": pa.nulls(files.num_rows, pa.string()), "position": pc.multiply(files["bytes"], 0),
    }  # fmt: skip
    return check_unique(Images(pa.table(columns, SCHEMA))), ignored


def _walk(root: Path, ignored: Counter[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield (path below root, stamp) of image files."""
    for name, entry in walk_files(root):
        if entry.name.lower().endswith(IMAGE_EXTENSIONS):
            yield name, _stamp(entry)
        else:
            ignored[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        info = entry.stat()
    except OSError:  # a broken link: listed, and later given its status
        return (-1, -1)
    return (info.st_size, info.st_mtime_ns)


def _label(root: Path, file_name: str) -> int | None:
    folder, separator, _ = file_name.partition("/")
    if separator and class_of_folder(folder) is None:
        raise ConfigError(
            f"images: folder {root / folder} is neither an ImageNet-1k WordNet id (n01440764) nor a class index (0 to 999). "
            "Rename it, move it away, or pass --unlabelled to relabel the images without original labels"
        )
    return class_of_path(file_name)


def check_unique(images: Images) -> Images:
    """Return images as they are, if each has an id of its own.

    Raises:
        ConfigError: If two images are the same photograph by their names (`mlimagenet_data.names.join_key`).
    """
    parts = [np.zeros(0, np.uint64)]
    for start in range(0, len(images), _PART):
        ids = images.table["image_id"].slice(start, _PART).to_pylist()
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
