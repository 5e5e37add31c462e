"""ImageNet-S (arXiv 2106.03149): validation images with the classes in their segmentation masks.

A pixel's id is R + 256 G of the mask: 0 for other things, 1000 for parts to ignore, else the position (from 1) among
the set's sorted wnids. Annotators did not look for any other class, so these are undecided in every image. So are the
five classes that the 919 merge into others.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.classes import NUM_CLASSES, class_of_folder
from mlimagenet_data.errors import AnnotationError, EvaluationError, ImageError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example, class_folders
from mlimagenet_data.formats.imagenet_s import read_mask
from mlimagenet_data.images import image_size

__all__ = ["open_imagenet_s"]

_SOURCE = "https://github.com/LUSSeg/ImageNet-S"
_SIZES = (50, 300, 919)  # numbers of classes in the published sets


def open_imagenet_s(root: Path) -> EvaluationSet:
    """Return the validation images of ImageNet-S with the classes that their masks show.

    Args:
        root: Folder such as `ImageNetS919`, with `validation/<wnid>/*.JPEG` and `validation-segmentation/<wnid>/*.png`, or
            its folder `validation`.

    Raises:
        EvaluationError: If there are not 50, 300 or 919 class folders, or a mask is missing, unreadable, of another
            size than its image, or holds an invalid id; the message names the file.
    """
    if (root.parent / "validation-segmentation").is_dir() and root.name == "validation":
        root = root.parent
    images = root / "validation"
    pairs = list(class_folders(images, _SOURCE))
    folders = sorted(entry.name for entry in os.scandir(images) if entry.is_dir() and entry.name[0] != ".")
    if len(folders) not in _SIZES:
        raise EvaluationError(f"{images}: {len(folders)} class folders; ImageNet-S has 50, 300 or 919. See {_SOURCE}")
    if indices := [folder for folder in folders if folder.isdigit()]:
        raise EvaluationError(
            f"{images / indices[0]}: folders must be named by wnid, because mask ids number the WordNet ids in sorted order"
        )
    classes = np.array([class_of_folder(folder) for folder in folders])

    def read(pair: tuple[str, int]) -> Example:
        file, original = pair
        mask = (root / "validation-segmentation" / file).with_suffix(".png")
        valid = tuple(classes[_ids(mask, images / file, len(folders)) - 1].tolist())
        return Example(file, valid, (), original, "" if valid else "the mask shows no class")

    with ThreadPoolExecutor() as pool:  # Pillow decodes without Python's lock
        examples = list(pool.map(read, pairs))
    judged = np.zeros(NUM_CLASSES, np.bool_)
    judged[classes] = True
    return EvaluationSet(f"ImageNet-S-{len(folders)}", images, examples, judged)


def _ids(path: Path, image: Path, count: int) -> NDArray[np.int64]:
    """Return the class ids in a mask, ascending."""
    try:
        ids = read_mask(path, count)
    except (ImageError, AnnotationError) as error:
        raise EvaluationError(
            f"{path}: {str(error).removeprefix(f'{path}: ')}; get ImageNet-S masks from {_SOURCE}"
        ) from error
    size = _size(image)
    if size not in (None, ids.shape[::-1]):
        raise EvaluationError(f"{path}: mask size (width, height) {ids.shape[::-1]}; must equal the image's, {size}")
    found = np.unique(ids)
    return found[found > 0]


def _size(image: Path) -> tuple[int, int] | None:
    """Return an image file's (width, height); None if it is unreadable, which the evaluation reports later."""
    try:
        height, width = image_size(image, upright=False)
    except ImageError:
        return None
    return width, height
