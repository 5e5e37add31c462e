"""This project's own annotations as an evaluation set: the labels that `python -m build.run` assigned to each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example

__all__ = ["open_annotations"]


def open_annotations(root: Path, store: AnnotationStore, *, min_score: float = 0.5) -> EvaluationSet:
    """Return the readable images of a split with their labels.

    Args:
        root: The split's image folder, which file names are relative to.
        store: The annotations.
        min_score: Ignore labels that score less; skip images that then have no label.
    """
    examples, locator = [], ImageLocator(root, store)
    for row in store.usable_rows().tolist():
        record = store.record(row)
        valid = tuple(index for index, score in record.labels if score >= min_score)
        why = "" if valid else f"no label scores at least {min_score}"
        examples.append(Example(locator.name(record), valid, (), record.label, why))
    return EvaluationSet(f"annotations, split {store.split}", root, examples, np.ones(NUM_CLASSES, np.bool_))
