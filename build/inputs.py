"""Lists the images to relabel: which files, under which stable id, with which original label."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from build.config import ConfigError
from mlimagenet_data.classes import class_of_folder, imagenet_classes
from mlimagenet_data.images import IMAGE_EXTENSIONS

T = TypeVar("T")

__all__ = ["ImageInput", "Listing", "evenly_spaced", "list_images"]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image file.

    Attributes:
        image_id: `<wnid>/<path below the class folder, without extension>`; unique.
        file_name: Path below the root, `/`-separated.
        label: Original class index, None where the folder names none.
        stamp: Size in bytes and modification time in ns, to notice a changed file; (-1, -1) for a broken link.
    """

    image_id: str
    file_name: str
    label: int | None
    stamp: tuple[int, int]


@dataclass(frozen=True)
class Listing:
    """The images below a root, sorted by file name.

    Attributes:
        root: Folder that file names are relative to.
        images: The images.
        ignored: Number of files of other kinds, by extension.
    """

    root: Path
    images: list[ImageInput]
    ignored: Counter[str]


def list_images(folder: str, *, split: str, unlabelled: bool = False, limit: int = 0) -> Listing:
    """List the images of a folder; see `--images`.

    Raises:
        ConfigError: If the folder is not there, holds no image, has a folder that names no class, or two files would share
            an image_id.
    """
    root = _split_root(Path(folder), split)
    ignored: Counter[str] = Counter()
    images = []
    for file_name, stamp in sorted(_walk(root, ignored)):
        label = None if unlabelled else _label(root, file_name)
        images.append(ImageInput(_image_id(file_name, label), file_name, label, stamp))
    if not images:
        raise ConfigError(f"images: no image file in {root} (looked for {', '.join(IMAGE_EXTENSIONS)})")
    images = _with_unique_ids(images)
    return Listing(root, evenly_spaced(images, limit) if limit else images, ignored)


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, evenly spaced from the first one on; all, if there are no more."""
    count = min(count, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def _split_root(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"images: {folder} is not a folder")
    inner = folder / split
    has_classes = any(class_of_folder(entry.name) is not None and entry.is_dir() for entry in folder.iterdir())
    return inner if inner.is_dir() and not has_classes else folder


def _walk(root: Path, ignored: Counter[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield (path below root, stamp) of image files. Links are followed; a folder that contains itself is entered once."""
    pending = [(str(root), "", frozenset[tuple[int, int]]())]
    while pending:
        folder, prefix, above = pending.pop()
        info = os.stat(folder)
        key = (info.st_dev, info.st_ino)
        if key in above:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(entry):
                    if not entry.name.startswith("."):
                        pending.append((entry.path, f"{prefix}{entry.name}/", above | {key}))
                elif entry.name.lower().endswith(IMAGE_EXTENSIONS):
                    yield prefix + entry.name, _stamp(entry)
                else:
                    ignored[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        info = entry.stat()
    except OSError:  # a broken link: listed, and later given its status
        return (-1, -1)
    return (info.st_size, info.st_mtime_ns)


def _label(root: Path, file_name: str) -> int | None:
    folder, separator, _ = file_name.partition("/")
    if not separator:
        return None
    label = class_of_folder(folder)
    if label is None:
        raise ConfigError(
            f"images: folder {root / folder} is neither an ImageNet-1k WordNet id (n01440764) nor a class index (0 to 999). "
            "Rename it, move it away, or pass --unlabelled to relabel the images without original labels"
        )
    return label


def _image_id(file_name: str, label: int | None) -> str:
    stem = os.path.splitext(file_name)[0]
    if label is None:
        return stem
    return f"{imagenet_classes().wnids[label]}/{stem.partition('/')[2]}"


def _with_unique_ids(images: list[ImageInput]) -> list[ImageInput]:
    """Keep the extension in the ids of files that differ by nothing else (a.jpg, a.png)."""
    counts = Counter(image.image_id for image in images)
    out = [
        ImageInput(i.image_id + os.path.splitext(i.file_name)[1], i.file_name, i.label, i.stamp)
        if counts[i.image_id] > 1
        else i
        for i in images
    ]
    seen: dict[str, str] = {}
    for image in out:
        if image.image_id in seen:
            raise ConfigError(
                f"images: {seen[image.image_id]} and {image.file_name} would both be image {image.image_id}; rename one"
            )
        seen[image.image_id] = image.file_name
    return out
