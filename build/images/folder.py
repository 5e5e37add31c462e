"""Image files in a folder tree."""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from build.config.options import ConfigError
from build.images.containers import NO_LABELS, is_container
from build.images.listing import ODD_NAMES, PART_ROWS, SCHEMA, Images, check_unique, file_stamps, other_file
from mlimagenet_data.classes import class_of_folder
from mlimagenet_data.files.printing import shown
from mlimagenet_data.files.walk import note_examples, walk_files
from mlimagenet_data.images import is_image_name
from mlimagenet_data.names import class_of_path, image_id_of, is_plain_path

__all__ = ["list_folder"]

_BROKEN = (-1, -1, -1, -1)  # a broken link: listed now, reported as missing later
_BESIDE = "tar and Parquet files in an image folder"


def list_folder(root: Path, left_out: Counter[str], *, unlabelled: bool) -> Images:
    """List the image files below a folder.

    Args:
        root: The folder.
        left_out: Counts what is not listed, by reason.
        unlabelled: Ignore classes.

    Raises:
        ConfigError: If a top-level folder names no class, or two files would share an id.
    """
    files = _image_files(root, left_out, unlabelled=unlabelled).sort_by("file_name")
    ids, labels = [], []
    for start in range(0, files.num_rows, PART_ROWS):
        part = files["file_name"].slice(start, PART_ROWS).to_pylist()
        known = [None if unlabelled else _label(root, name) for name in part]
        ids.append(pa.array([image_id_of(name, unlabelled=unlabelled) for name in part], pa.string()))
        labels.append(pa.array(known, pa.int64()))
    columns = {name: files[name] for name in files.column_names} | {
        "image_id": pa.chunked_array(ids, pa.string()), "label": pa.chunked_array(labels, pa.int64()),
        "position": pa.array(np.zeros(files.num_rows, np.int64)),
    }  # fmt: skip
    columns |= {kind.name: pa.nulls(files.num_rows, kind.type) for kind in SCHEMA if kind.name not in columns}
    return check_unique(Images(pa.table([columns[name] for name in SCHEMA.names], SCHEMA)))


def _image_files(root: Path, left_out: Counter[str], *, unlabelled: bool) -> pa.Table:
    """Return each image file's path below the root and its stamps."""

    def may_skip(folder: str) -> bool:
        if unlabelled or class_of_folder(folder.partition("/")[0]) is None:
            return True
        raise ConfigError(
            f"images: {root / folder} may not be read, but is a class folder; grant access, or move it away"
        )

    names: list[str] = []
    odd: list[str] = []
    sizes, modified, changed, inodes = stamps = array("q"), array("q"), array("q"), array("q")
    for name, entry in walk_files(root, left_out, may_skip):
        if not is_image_name(entry.name):
            left_out[_BESIDE if is_container(name) else other_file(name)] += 1
        elif not is_plain_path(name):
            odd.append(name)
        else:
            names.append(name)
            try:
                values = file_stamps(entry.stat())
            except OSError:
                values = _BROKEN
            for column, value in zip(stamps, values, strict=True):
                column.append(value)
    note_examples(left_out, ODD_NAMES, odd)
    columns = {"bytes": sizes, "modified_ns": modified, "changed_ns": changed, "inode": inodes}
    return pa.table({"file_name": pa.array(names, pa.string())} | {key: pa.array(c) for key, c in columns.items()})


def _label(root: Path, file_name: str) -> int | None:
    folder, separator, _ = file_name.partition("/")
    if separator and class_of_folder(folder) is None:
        raise ConfigError(
            f"images: {root}: folder {shown(folder)} must be named by an ImageNet-1k WordNet id (n01440764) or a "
            f"class index (0 to 999). Rename it, move it away, or {NO_LABELS}"
        )
    return class_of_path(file_name)
