"""Image folders: any images in class folders, one label each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlimagenet_data.annotations.locate import split_folder
from mlimagenet_data.classes import NUM_CLASSES, class_of_folder
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example, class_folders

__all__ = ["open_folder"]


def open_folder(root: Path) -> EvaluationSet:
    """Return the images in class folders, each with the folder's class.

    Args:
        root: Parent of the class folders, which are named by wnid or class index; or a folder that holds it as `val`, as
            in ImageNet, or as its only split.

    Raises:
        EvaluationError: If a folder does not name a class, there are no images, or there are several splits and no `val`.
    """
    root = _only_split(split_folder(root, "val"))
    examples = [Example(file, (label,), (), label) for file, label in class_folders(root)]
    if not examples:
        raise EvaluationError(f"{root}: no images in class folders")
    return EvaluationSet("images in class folders", root, examples, np.ones(NUM_CLASSES, np.bool_))


def _only_split(root: Path) -> Path:
    """Return the one folder of class folders in a folder that has none itself, else the folder."""
    inside = _folders(root)
    if any(class_of_folder(path.name) is not None for path in inside):
        return root
    splits = [path for path in inside if any(class_of_folder(inner.name) is not None for inner in _folders(path))]
    if len(splits) > 1:
        raise EvaluationError(
            f"{root}: holds {', '.join(path.name for path in splits)} with class folders; name one of these, as in {splits[0]}"
        )
    return splits[0] if splits else root


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
