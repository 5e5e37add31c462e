"""Image files in a folder tree."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from build.config.options import ConfigError
from build.images.listing import PART_ROWS, SCHEMA, Images, check_unique
from mlimagenet_data.classes import class_of_folder
from mlimagenet_data.files.walk import walk_files
from mlimagenet_data.images import IMAGE_EXTENSIONS
from mlimagenet_data.names import class_of_path, image_id_of

__all__ = ["list_folder"]


def list_folder(root: Path, *, unlabelled: bool) -> tuple[Images, Counter[str]]:
    """List the image files below a folder, and count other files.

    Raises:
        ConfigError: If a top-level folder names no class, or two files would share an id.
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
    for start in range(0, files.num_rows, PART_ROWS):
        part = files["file_name"].slice(start, PART_ROWS).to_pylist()
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
    """Yield each image file's path below the root and its stamp."""
    for name, entry in walk_files(root):
        if entry.name.lower().endswith(IMAGE_EXTENSIONS):
            yield name, _stamp(entry)
        else:
            ignored[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        info = entry.stat()
    except OSError:  # a broken link: listed now, reported as missing later
        return (-1, -1)
    return (info.st_size, info.st_mtime_ns)


def _label(root: Path, file_name: str) -> int | None:
    folder, separator, _ = file_name.partition("/")
    if separator and class_of_folder(folder) is None:
        raise ConfigError(
            f"images: folder {root / folder} must be named by an ImageNet-1k WordNet id (n01440764) or a class index (0 to 999). "
            "Rename it, move it away, or pass --unlabelled to relabel the images without original labels"
        )
    return class_of_path(file_name)
