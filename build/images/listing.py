"""The list of images to relabel, kept as an Arrow table: 1.28 million images take about 240 MB."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from build.config.options import ConfigError
from mlimagenet_data.annotations.validate import id_hash
from mlimagenet_data.files.printing import printable
from mlimagenet_data.names import join_key

__all__ = [
    "ODD_NAMES",
    "PART_ROWS",
    "SCHEMA",
    "ImageInput",
    "Images",
    "Listing",
    "check_unique",
    "digest_of",
    "evenly_spaced",
    "file_stamps",
    "hash_of_stamps",
    "left_out_text",
    "other_file",
    "stamps_of",
]

T = TypeVar("T")
SCHEMA = pa.schema([
    ("image_id", pa.string()),
    ("file_name", pa.string()),
    ("label", pa.int64()),
    ("bytes", pa.int64()),
    ("modified_ns", pa.int64()),
    ("container", pa.string()),  # path below the root of the tar or Parquet file that holds the image
    ("position", pa.int64()),  # byte offset or row in the container
    ("changed_ns", pa.int64()),
    ("inode", pa.int64()),
    ("source", pa.dictionary(pa.int32(), pa.string())),  # hash of the container's structure
    ("fault", pa.string()),  # why the image cannot be read, as far as the source shows
])  # fmt: skip
ODD_NAMES = "names with \\, control characters or a drive letter, which other systems or tools read otherwise"
PART_ROWS = 65_536  # rows held as Python objects at a time


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image.

    Attributes:
        image_id: `<wnid>/<path below the class folder, without extension>`; unique.
        file_name: Path below the root, `/`-separated; in a tar or Parquet file, the name there.
        label: Original class index, None without one.
        stamp: Size in bytes and modification time in ns, to detect changed files; (-1, -1) for a broken link. The time
            of an image in a container is the container's.
        container: Path below the root of the tar or Parquet file that holds it; None for a file of its own.
        position: Byte offset in the tar file, or row in the Parquet file.
        changed_ns: Time of the last change of the file or container, its name and permissions included (ctime).
        inode: Number of the file or container on its disk.
        source: Hash of the container's structure: of a tar file's headers, or of a Parquet file's footer.
        fault: Why the image cannot be read, if the listing already shows it; such an image has the status `unreadable`.
    """

    image_id: str
    file_name: str
    label: int | None
    stamp: tuple[int, int]
    container: str | None = None
    position: int = 0
    changed_ns: int = -1
    inode: int = -1
    source: str | None = None
    fault: str | None = None


class Images(Sequence[ImageInput]):
    """A sequence of images backed by a table of SCHEMA."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, images: Iterable[ImageInput]) -> Images:
        """Return the table of some images."""
        rows, parts = iter(images), [SCHEMA.empty_table()]
        while part := list(islice(rows, PART_ROWS)):
            columns = zip(*map(_values, part), strict=True)
            arrays = [pa.array(values, kind.type) for values, kind in zip(columns, SCHEMA, strict=True)]
            parts.append(pa.table(arrays, SCHEMA))
        return cls(pa.concat_tables(parts).unify_dictionaries())

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


def _values(i: ImageInput) -> tuple[object, ...]:
    return (
        i.image_id, i.file_name, i.label, *i.stamp, i.container, i.position, i.changed_ns, i.inode, i.source, i.fault
    )  # fmt: skip


def _objects(table: pa.Table) -> list[ImageInput]:
    columns = (table[name].to_pylist() for name in SCHEMA.names)
    return [
        ImageInput(image_id, file_name, label, (size, modified), *others)
        for image_id, file_name, label, size, modified, *others in zip(*columns, strict=True)
    ]


@dataclass(frozen=True)
class Listing:
    """The images below a root: a folder's sorted by path, a container's in file order.

    Attributes:
        root: The folder that file names and containers are relative to.
        images: The images taken.
        left_out: Number of other files, members and rows, by reason. Not counted: the `.cls` and `.json` of an image
            that is taken, folders, and the folders of other splits.
    """

    root: Path
    images: Images
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def found(self) -> int:
        """Number of files, members and rows found: those taken and those left out."""
        return len(self.images) + self.left_out.total()

    @property
    def faults(self) -> int:
        """Number of images that cannot be read, as far as the listing shows."""
        column = self.images.table["fault"]
        return len(column) - int(column.null_count)

    @property
    def first_fault(self) -> str:
        """The first of these images, and why it cannot be read; "" if there is none."""
        places = pc.indices_nonzero(pc.is_valid(self.images.table["fault"]))
        if not len(places):
            return ""
        first = self.images[places[0].as_py()]
        return f"{_place(first)}: {first.fault}"


def left_out_text(left_out: Counter[str]) -> str:
    """Return counts by reason, the most common first."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())


def other_file(name: str) -> str:
    """Return the reason to leave out a file that is neither an image nor a class: its extension."""
    extension = os.path.splitext(name)[1].lower()
    plain = extension.isascii() and extension[1:].isalnum() and len(extension) <= 10
    return f"other files ({extension if plain else 'no extension' if not extension else 'odd extensions'})"


def file_stamps(info: os.stat_result) -> tuple[int, int, int, int]:
    """Return a file's size in bytes, modification and change time in ns, and inode, each as a 64-bit integer.

    Times after the year 2262 and the largest inodes are taken modulo 2 ** 64.
    """
    values = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
    size, modified, changed, inode = ((value + 2**63) % 2**64 - 2**63 for value in values)
    return size, modified, changed, inode


def digest_of(images: Iterable[ImageInput], *, times: bool) -> str:
    """Return the hash of images' ids, names, classes, sizes, containers and, with `times`, modification times.

    A copy of the files that keeps their modification times has the same hash.
    """
    out = hashlib.sha256()
    for i in images:
        stamp = i.stamp if times else i.stamp[:1]
        facts = [i.image_id, i.file_name, i.label, *stamp, i.container, i.position]
        if i.source is not None or i.fault is not None:
            facts += [i.source, i.fault]
        out.update(json.dumps(facts).encode())
    return out.hexdigest()


def stamps_of(images: Iterable[ImageInput]) -> str:
    """Return the hash of images' modification times, change times and inodes."""
    return hash_of_stamps((image.stamp[1], image.changed_ns, image.inode) for image in images)


def hash_of_stamps(stamps: Iterable[tuple[int, int, int]]) -> str:
    """Return the hash of modification times, change times and inodes, three numbers per image."""
    return hashlib.sha256(array("q", itertools.chain.from_iterable(stamps)).tobytes()).hexdigest()


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
        raise ConfigError(
            f"images: {_place(one)} and {_place(other)} would both be image {printable(other.image_id)}; rename or remove one"
        )
    return images


def _place(image: ImageInput) -> str:
    return printable(f"{image.container}: {image.file_name}" if image.container else image.file_name)
