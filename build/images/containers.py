"""What the sources that hold many images in one file (tar, Parquet) share; such files may come from strangers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from build.config.options import ConfigError
from build.images.listing import SCHEMA, ImageInput, Images, file_stamps
from mlimagenet_data.classes import NUM_CLASSES, imagenet_classes
from mlimagenet_data.files.printing import printable, shown
from mlimagenet_data.names import is_plain_path

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["CONTAINERS", "NO_LABELS", "Container", "agreed_class", "check_class", "check_path", "is_container"]

CONTAINERS = (".tar", ".parquet")
NO_LABELS = "pass --unlabelled to relabel the images without original labels"


def is_container(name: str) -> bool:
    """Return whether a file's extension is that of a container."""
    return name.lower().endswith(CONTAINERS)


@dataclass(frozen=True)
class Container:
    """A file of many images.

    Attributes:
        file: Its path.
        name: Its path below the listing's root, `/`-separated.
        size: Its size in bytes.
        stamps: Its modification time, change time and inode, as `ImageInput`.
    """

    file: Path
    name: str
    size: int
    stamps: tuple[int, int, int]

    @classmethod
    def of(cls, root: Path, file: Path) -> Container:
        """Return a file below a root."""
        size, *stamps = file_stamps(os.stat(file))
        return cls(file, file.relative_to(root).as_posix(), size, (stamps[0], stamps[1], stamps[2]))

    def image(
        self, image_id: str, name: str, label: int | None, *, size: int, position: int, fault: str | None = None
    ) -> ImageInput:
        """Return one of its images; arguments as `ImageInput`."""
        modified, changed, inode = self.stamps
        return ImageInput(
            image_id, name, label, (size, modified), self.name, position, changed, inode, fault=fault
        )  # fmt: skip

    def images(self, rows: Iterable[ImageInput], structure: _Hash) -> Images:
        """Return its images as a table, each with the hash of the file's structure, which is complete after the last."""
        table, place = Images.of(rows).table, SCHEMA.get_field_index("source")
        digests = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, np.int32), [structure.hexdigest()])
        return Images(table.set_column(place, SCHEMA.field(place), digests))


def check_path(name: str, container: Path) -> str | None:
    """Return the normalised name of an image inside a container; None for `listing.ODD_NAMES`, which are left out.

    Raises:
        ConfigError: If the path is absolute or could leave the folder it is joined to.
    """
    path = str(PurePosixPath(name))
    if name and is_plain_path(path):
        return path
    if path.startswith("/") or {".", ".."} & set(path.split("/")):
        raise ConfigError(f"images: {container}: {shown(name)} must be a relative path that stays inside its folder")
    return None


def check_class(value: int | None, container: Path, name: str) -> int | None:
    """Return a class index from a container, None where it is missing or -1.

    Raises:
        ConfigError: If it is not a class index.
    """
    if value is None or value == -1:
        return None
    if not 0 <= value < NUM_CLASSES:
        raise ConfigError(
            f"images: {container}: {printable(name)}: class {shown(value)} must be an index from 0 to {NUM_CLASSES - 1}; "
            f"correct it, or {NO_LABELS}"
        )
    return value


def agreed_class(container: Path, name: str, sides: Sequence[tuple[str, int | None]]) -> int | None:
    """Return the class that all parts of a source agree on, None if none of them states one.

    Args:
        container: The file.
        name: The image.
        sides: What states the class, and the class.

    Raises:
        ConfigError: If two of them state different classes.
    """
    stated = [(side, label) for side, label in sides if label is not None]
    if not stated:
        return None
    (first, label), *others = stated
    for side, other in others:
        if other != label:
            raise ConfigError(
                f"images: {container}: {printable(name)}: {first} says class {_described(label)}, but {side} says "
                f"{_described(other)}; correct one of them, or {NO_LABELS}"
            )
    return label


def _described(label: int) -> str:
    table = imagenet_classes()
    return f"{label} ({table.wnids[label]}, {table.names[label]})"
