"""ImageNet multi-label validation (20,000 images) and its hard slice ImageNet-M (arXiv 2205.04596)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlimagenet_data.annotations.locate import split_folder
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example
from mlimagenet_data.evaluate.sets.multilabel_json import MULTI, MultiLabels, read_multilabels
from mlimagenet_data.evaluate.sets.validation_files import validation_files
from mlimagenet_data.names import validation_number

__all__ = ["open_imagenet_m", "open_multilabel"]


def open_multilabel(
    root: Path, labels: Path, *, class_list: Path | None = None, partial: bool = False
) -> EvaluationSet:
    """Return the 20,000 validation images with multi-label annotations; skip problematic ones.

    The mean of `is_right` over original classes (`class_mean`) is multi-label accuracy as published.

    Args:
        root: Folder with the validation images, or a folder that holds it as `val`.
        labels: `human_accuracy_v3.0.0.json`.
        class_list: List of the original classes, see `read_validation_classes`; None reads them from class folders or
            names.
        partial: Accept missing images.

    Raises:
        EvaluationError: If the file has another form, or images are missing.
    """
    return _open_annotated("ImageNet multi-label", root, _of_validation(read_multilabels(labels)), class_list, partial)


def open_imagenet_m(
    root: Path, labels: Path, *, class_list: Path | None = None, partial: bool = False
) -> EvaluationSet:
    """Return ImageNet-M: 68 validation images with major mistakes of the best models of 2022 (arXiv 2205.04596).

    Args:
        root: Folder with the validation images, or a folder that holds it as `val`.
        labels: `human_accuracy_v3.0.0.json`.
        class_list: List of the original classes, see `read_validation_classes`; None reads them from class folders or
            names.
        partial: Accept missing images.

    Raises:
        EvaluationError: If the file has another form or no ImageNet-M, or images are missing.
    """
    found = {n: item._replace(problematic=False) for n, item in _of_validation(read_multilabels(labels)).items()}
    major = {number: item for number, item in found.items() if item.major}
    if not major:
        raise EvaluationError(f"{labels}: imagenet_m is empty; get version 3.0.0 from {MULTI}")
    return _open_annotated("ImageNet-M", root, major, class_list, partial)


def _open_annotated(
    name: str, root: Path, labels: dict[int, MultiLabels], class_list: Path | None, partial: bool
) -> EvaluationSet:
    root = split_folder(root, "val")
    files = validation_files(root, None if partial else labels, class_list)
    examples = []
    for number, (file, original) in files.items():
        if item := labels.get(number):
            why = "problematic" if item.problematic else "" if item.correct else "no class is marked correct"
            examples.append(Example(file, item.correct, item.unclear, original, why))
    return EvaluationSet(name, root, examples, np.ones(NUM_CLASSES, np.bool_))


def _of_validation(labels: dict[str, MultiLabels]) -> dict[int, MultiLabels]:
    """Return the annotations of validation images, by file number."""
    numbered = ((validation_number(name), item) for name, item in labels.items())
    return {number: item for number, item in numbered if number is not None}
