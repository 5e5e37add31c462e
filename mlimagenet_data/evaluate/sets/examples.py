"""Evaluation set: images, their valid classes, and the classes and images to ignore."""

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
from mlimagenet_data.images import is_image_name, load_image

__all__ = ["EvaluationSet", "Example", "class_folders", "read_json"]

_MOST_JSON = 256 << 20  # bytes; the largest of the published files is far smaller


@dataclass(frozen=True, slots=True)
class Example:
    """One image.

    Attributes:
        file: Path relative to the root, `/`-separated.
        valid: Classes that the image shows.
        unclear: Classes that annotators were unsure of; correct as a prediction, ignored by other metrics.
        original: Original class, None if unknown.
        skipped: Reason why only its original class is evaluated; empty if all metrics include it.
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
        name: Name in reports.
        root: Image folder.
        examples: The images.
        judged: (1000,) bool, classes that annotators looked for; all others are undecided in every image.
    """

    name: str
    root: Path
    examples: Sequence[Example]
    judged: Mask

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def files(self) -> list[str]:
        """The images' paths relative to the root."""
        return [example.file for example in self.examples]

    @property
    def original(self) -> NDArray[np.int64]:
        """The original class of each image, -1 if unknown: (N,)."""
        return np.array([-1 if e.original is None else e.original for e in self.examples], np.int64)

    @property
    def evaluated(self) -> Mask:
        """The images that are not skipped: (N,) bool."""
        return np.array([not example.skipped for example in self.examples], np.bool_)

    def load(self, index: int) -> Image.Image:
        """Load an image for a network: RGB, ignoring EXIF orientation like timm and torchvision.

        Raises:
            ImageError: If the file is missing or cannot be read.
        """
        return load_image(self.root / self.examples[index].file, upright=False)

    def targets(self, rows: NDArray[np.integer]) -> Targets:
        """Return the targets of images: (n, 1000) int8, 1 for valid, -1 for unclear or not judged, else 0."""
        out = np.zeros((len(rows), NUM_CLASSES), np.int8)
        out[:, ~self.judged] = -1
        for target, row in zip(out, rows.tolist(), strict=True):
            target[list(self.examples[row].unclear)] = -1
            target[list(self.examples[row].valid)] = 1
        return out


def class_folders(root: Path, source: str = "") -> Iterator[tuple[str, int]]:
    """Yield (path relative to the root, class) of images in class folders, sorted by folder and file name.

    Args:
        root: The folder of the class folders.
        source: Download address for the error message.

    Raises:
        EvaluationError: If the root is not a folder, or a folder in it does not name a class.
    """
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder{f'; get it from {source}' if source else ''}")
    for folder in sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."):
        label = class_of_folder(folder)
        if label is None:
            raise EvaluationError(f"{root / folder}: the folder must be named by a wnid (n01440764) or a class index")
        for name in sorted(os.listdir(root / folder)):
            if is_image_name(name):
                yield f"{folder}/{name}", label


def read_json(path: Path, source: str) -> Any:
    """Read a JSON file; `source` is its download address, for error messages.

    Raises:
        EvaluationError: If the file is missing, larger than 256 MiB, or not JSON.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: no such file; get it from {source}")
    if path.stat().st_size > _MOST_JSON:
        raise EvaluationError(f"{path}: {path.stat().st_size} bytes; must have at most {_MOST_JSON}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: not JSON ({error}); get it from {source}") from error
