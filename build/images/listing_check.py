"""Check that the files of a listing are still those that were listed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from build.config.options import ConfigError
from build.images.listing import ImageInput, Listing, file_stamps, hash_of_stamps
from build.images.parquet_rows import parquet_structure
from build.images.tar_members import tar_structure
from mlimagenet_data.files.printing import printable

__all__ = ["changes_since", "stamps_now"]

_THREADS = 32  # disks on a network answer slowly, but many at a time
_PART = 4096  # files per task


def changes_since(listing: Listing, *, content: bool = False) -> str:
    """Compare the files of a listing with those there now.

    An image file is the same if it has the listed name, size and modification time; a tar or Parquet file if it has the
    listed modification time and structure. The structure is read only if the change time or the inode differs.

    Args:
        listing: The listing.
        content: Read the structure of every tar and Parquet file. Images are not read;
            `build.images.reader.ImageReader.digest` does that.

    Returns:
        "" if all are the same, else the first file that differs, how, and how many differ in all.
    """
    if not listing.root.is_dir():
        return f"{listing.root}: no such folder"
    table = listing.images.table
    containers = [name for name in pc.unique(table["container"]).to_pylist() if name is not None]
    files = table.filter(pc.is_null(table["container"]))
    found = [*_changed_containers(listing, containers, content), *_changed_files(str(listing.root), files)]
    if not found:
        return ""
    more = f"; {len(found)} of {len(containers) + files.num_rows} files differ" if len(found) > 1 else ""
    return printable(found[0]) + more


def _changed_containers(listing: Listing, names: list[str], content: bool) -> Iterator[str]:
    for name in names:
        first = listing.images[pc.index(listing.images.table["container"], name).as_py()]
        if reason := _container_difference(listing, name, first, content):
            yield f"{listing.root / name}: {reason}"


def _container_difference(listing: Listing, name: str, first: ImageInput, content: bool) -> str:
    path = listing.root / name
    try:
        info = os.stat(path)
        _, *times = file_stamps(info)
        if not stat.S_ISREG(info.st_mode):
            return "no longer a regular file"
        if times[0] != first.stamp[1]:
            return "modified since it was listed"
        if times[1:] == [first.changed_ns, first.inode] and not content:
            return ""
        structure = (parquet_structure if name.lower().endswith(".parquet") else tar_structure)(path)
    except OSError as error:
        return error.strerror or str(error)
    except ConfigError as error:
        return f"damaged since it was listed: {error}"
    return "" if structure == first.source else "other contents than when it was listed"


def _changed_files(root: str, files: pa.Table) -> Iterator[str]:
    """Yield a text for each image file that differs, in the order of the listing."""

    def compare(start: int) -> list[str]:
        part = files.slice(start, _PART)
        columns = (part[name].to_pylist() for name in ("file_name", "bytes", "modified_ns"))
        found = ((name, _difference(f"{root}/{name}", *stamp)) for name, *stamp in zip(*columns, strict=True))
        return [f"{root}/{name}: {reason}" for name, reason in found if reason]

    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(compare, range(0, files.num_rows, _PART)):
            yield from part


def _difference(path: str, size: int, modified: int) -> str:
    try:
        info = os.stat(path)
    except OSError as error:
        return "" if size < 0 else error.strerror or str(error)
    now = file_stamps(info)
    if not stat.S_ISREG(info.st_mode):
        return "no longer a regular file"
    if size < 0:
        return "there now, but missing when it was listed"
    if now[0] != size:
        return f"{now[0]} bytes, but {size} when it was listed"
    return "" if now[1] == modified else "modified since it was listed"


def stamps_now(root: Path, images: Sequence[ImageInput]) -> str:
    """Return `stamps_of` images as their files are now."""

    def stamp(image: ImageInput) -> tuple[int, int, int]:
        try:
            _, modified, changed, inode = file_stamps(os.stat(root / (image.container or image.file_name)))
        except OSError:
            return (-1, -1, -1)
        return modified, changed, inode

    return hash_of_stamps(map(stamp, images))
