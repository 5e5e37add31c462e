"""Image folders: any images in class folders, one label each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlimagenet_data.annotations.locate import split_folder
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example, class_folders

__all__ = ["open_folder"]


def open_folder(root: Path) -> EvaluationSet:
    """Return the images in class folders, each with the folder's class.

    Args:
        root: Parent of the class folders, which are named by wnid or class index; or a folder that holds it as `val`, as
            in ImageNet.

    Raises:
        EvaluationError: If a folder does not name a class, or there are no images.
    """
    root = split_folder(root, "val")
    examples = [Example(file, (label,), (), label) for file, label in class_folders(root)]
    if not examples:
        raise EvaluationError(f"{root}: no images in class folders")
    return EvaluationSet("images in class folders", root, examples, np.ones(NUM_CLASSES, np.bool_))
