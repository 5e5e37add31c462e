"""A set of images to evaluate on: what each shows, and what of it counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlimagenet_data.classes import NUM_CLASSES, class_of_folder
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.arrays import Mask, Targets
from mlimagenet_data.images import IMAGE_EXTENSIONS, load_image

__all__ = ["EvaluationSet", "Example", "class_folders", "read_json"]

_MOST_JSON = 256 << 20  # bytes; the largest of the published files is far smaller


@dataclass(frozen=True, slots=True)
class Example:
    """One image.

    Attributes:
        file: Its path below the root, `/`-separated.
        valid: The classes that it shows.
        unclear: Classes of which the annotators were not sure: right as a prediction, left out of other metrics.
        original: Its original class, None where that is not known.
        skipped: Why it is not evaluated (but for its original class); empty if it is.
    """

    file: str
    valid: tuple[int, ...]
    unclear: tuple[int, ...] = ()
    original: int | None = None
    skipped: str = ""


@dataclass(frozen=True)
class EvaluationSet:
    """Images and their classes, in a fixed order.

    Attributes:
        name: What it is, for reports.
        root: Folder of the images.
        examples: The images.
        judged: (1000,) bool, the classes that annotators looked for; others are undecided in every image.
    """

    name: str
    root: Path
    examples: Sequence[Example]
    judged: Mask

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def files(self) -> list[str]:
        """The images' paths below the root."""
        return [example.file for example in self.examples]

    @property
    def original(self) -> NDArray[np.int64]:
        """The original class of each image, -1 where it is not known: (N,)."""
        return np.array([-1 if e.original is None else e.original for e in self.examples], np.int64)

    @property
    def evaluated(self) -> Mask:
        """The images that are not skipped: (N,) bool."""
        return np.array([not example.skipped for example in self.examples], np.bool_)

    def load(self, index: int) -> Image.Image:
        """Return an image as networks are evaluated on it: RGB, not turned as EXIF says, as in timm and torchvision.

        Raises:
            ImageError: If the file is not there or cannot be read.
        """
        return load_image(self.root / self.examples[index].file, upright=False)

    def targets(self, rows: NDArray[np.integer]) -> Targets:
        """Return the targets of some images: (n, 1000) int8, 1 for valid classes, -1 for unclear and not judged ones, else 0."""
        out = np.zeros((len(rows), NUM_CLASSES), np.int8)
        out[:, ~self.judged] = -1
        for target, row in zip(out, rows.tolist(), strict=True):
            target[list(self.examples[row].unclear)] = -1
            target[list(self.examples[row].valid)] = 1
        return out


def class_folders(root: Path, source: str = "") -> Iterator[tuple[str, int]]:
    """Yield (path below the root, class) of the images in class folders, by sorted folder and file names.

    Args:
        root: The folder of the class folders.
        source: Where to get it.

    Raises:
        EvaluationError: If the root is no folder, or a folder in it names no class.
    """
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder{f'; get it from {source}' if source else ''}")
    for folder in sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."):
        label = class_of_folder(folder)
        if label is None:
            raise EvaluationError(f"{root / folder}: the folder's name is neither a wnid (n01440764) nor a class index")
        for name in sorted(os.listdir(root / folder)):
            if name.lower().endswith(IMAGE_EXTENSIONS):
                yield f"{folder}/{name}", label


def read_json(path: Path, source: str) -> Any:
    """Return what a JSON file holds; `source` says where to get it.

    Raises:
        EvaluationError: If it is not there, larger than 256 MiB, or no JSON.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: no such file; get it from {source}")
    if path.stat().st_size > _MOST_JSON:
        raise EvaluationError(f"{path}: {path.stat().st_size} bytes; it must not have more than {_MOST_JSON}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: no JSON ({error}); get it from {source}") from error
