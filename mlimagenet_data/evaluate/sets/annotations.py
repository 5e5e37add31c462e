"""This project's own annotations as an evaluation set: the labels that `python -m build.run` assigned to each image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlimagenet_data.annotations.locate import ImageLocator, open_copy
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError, ImageError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example

__all__ = ["open_annotations"]


def open_annotations(
    root: Path,
    store: AnnotationStore,
    *,
    min_score: float = 0.5,
    needs_images: bool = True,
    advance: Callable[[int], object] = lambda count: None,
) -> EvaluationSet:
    """Return the readable images of a split with their labels.

    Args:
        root: The folder of the images, or its folder for the split.
        store: The annotations.
        min_score: Ignore labels that score less; skip images that then have no label.
        needs_images: Check that images are there.
        advance: Called with 1 per readable image.

    Raises:
        EvaluationError: If images are needed, and the folder does not exist or holds none of them.
    """
    try:
        locator = open_copy(root, store) if needs_images else ImageLocator(root, store)
    except ImageError as error:
        raise EvaluationError(str(error)) from error
    examples = []
    for row in store.usable_rows().tolist():
        record = store.record(row)
        valid = tuple(index for index, score in record.labels if score >= min_score)
        why = "" if valid else f"no label scores at least {min_score}"
        examples.append(Example(locator.name(record), valid, (), record.label, why))
        advance(1)
    name, judged = f"annotations, split {store.split}", np.ones(NUM_CLASSES, np.bool_)
    return EvaluationSet(name, Path(locator.folder), examples, judged)
