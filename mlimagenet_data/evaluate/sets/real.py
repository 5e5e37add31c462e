"""ImageNet ReaL: validation images with reassessed labels (arXiv 2006.07159)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from mlimagenet_data.annotations.locate import split_folder
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.class_lists import IMAGES
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example, read_json
from mlimagenet_data.evaluate.sets.validation_files import validation_files

__all__ = ["open_real"]

_REAL = "https://github.com/google-research/reassessed-imagenet (real.json)"


def open_real(
    root: Path, labels: Path | None = None, *, class_list: Path | None = None, partial: bool = False
) -> EvaluationSet:
    """Return ImageNet's validation images with ReaL labels ("Are we done with ImageNet?", arXiv 2006.07159).

    Skip images with an empty list, as the paper does: raters found no class that fits. The mean of `is_right` is ReaL
    accuracy.

    Args:
        root: Folder with the validation images, or a folder that holds it as `val`.
        labels: `real.json`, 50,000 lists of class indices in file number order; None uses timm's copy.
        class_list: List of the original classes, see `read_validation_classes`; None reads them from class folders or
            names.
        partial: Accept missing images.

    Raises:
        EvaluationError: If the file does not hold 50,000 lists of classes, or images are missing; the message names the
            first.
    """
    if labels is None:
        labels = _timms_real()
    lists = read_json(labels, _REAL)
    if not isinstance(lists, list) or len(lists) != IMAGES:
        found = f"{len(lists)} entries" if isinstance(lists, list) else type(lists).__name__
        raise EvaluationError(f"{labels}: {found}; must be a list of {IMAGES} lists. Get it from {_REAL}")
    for number, classes in enumerate(lists):
        if not isinstance(classes, list) or any(type(k) is not int or not 0 <= k < NUM_CLASSES for k in classes):
            raise EvaluationError(f"{labels}: entry {number}: {str(classes)[:80]} is not a list of classes 0 to 999")
    root = split_folder(root, "val")
    files = validation_files(root, None if partial else range(1, IMAGES + 1), class_list)
    examples = []
    for number, (file, original) in files.items():
        classes = tuple(dict.fromkeys(lists[number - 1]))
        examples.append(Example(file, classes, (), original, "" if classes else "no class fits"))
    return EvaluationSet("ImageNet ReaL", root, examples, np.ones(NUM_CLASSES, np.bool_))


def _timms_real() -> Path:
    spec = importlib.util.find_spec("timm")  # imports nothing
    if spec is None or spec.origin is None:
        raise EvaluationError(
            f"timm, which includes ReaL's labels, is not installed; install it, or pass the file: {_REAL}"
        )
    return Path(spec.origin).with_name("data") / "_info" / "imagenet_real_labels.json"
