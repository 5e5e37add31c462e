"""This project's own annotations as an evaluation set: the labels that `python -m build.run` assigned to each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlimagenet_data.annotations.locate import ImageLocator, split_folder
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example

__all__ = ["open_annotations"]

_LOOKED_FOR = 100  # images


def open_annotations(
    root: Path, store: AnnotationStore, *, min_score: float = 0.5, needs_images: bool = True
) -> EvaluationSet:
    """Return the readable images of a split with their labels.

    Args:
        root: The folder of the images, or its folder for the split.
        store: The annotations.
        min_score: Ignore labels that score less; skip images that then have no label.
        needs_images: Check that images are there.

    Raises:
        EvaluationError: If images are needed, and the folder does not exist, or none of the images looked for is there.
    """
    if needs_images and not root.is_dir():
        raise EvaluationError(f"{root}: no such folder")
    root = split_folder(root, store.split)
    examples, locator = [], ImageLocator(root, store)
    for row in store.usable_rows().tolist():
        record = store.record(row)
        valid = tuple(index for index, score in record.labels if score >= min_score)
        why = "" if valid else f"no label scores at least {min_score}"
        examples.append(Example(locator.name(record), valid, (), record.label, why))
    here = examples[:: max(1, len(examples) // _LOOKED_FOR)]
    if needs_images and here and not any((root / example.file).exists() for example in here):
        raise EvaluationError(
            f"{root}: none of {len(here)} annotated images looked for is here, such as {here[0].file}; name the folder of "
            f"the images, or its folder {store.split}"
        )
    return EvaluationSet(f"annotations, split {store.split}", root, examples, np.ones(NUM_CLASSES, np.bool_))
