"""Open a truth by its kind and path, with the readers of the evaluation sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.annotations import open_annotations
from mlimagenet_data.evaluate.sets.boxes import open_boxes
from mlimagenet_data.evaluate.sets.examples import EvaluationSet
from mlimagenet_data.evaluate.sets.imagenet_s import open_imagenet_s
from mlimagenet_data.evaluate.sets.imagenet_v2 import open_v2
from mlimagenet_data.evaluate.sets.masks import open_masks
from mlimagenet_data.evaluate.sets.multilabel import open_imagenet_m, open_multilabel
from mlimagenet_data.evaluate.sets.real import open_real
from mlimagenet_data.evaluate.sets.truth import Truth, truth_of_set

__all__ = ["open_truth"]


def open_truth(
    kind: str,
    path: str,
    *,
    labels: Path | None = None,
    class_list: Path | None = None,
    split: str = "train",
    min_score: float = 0.5,
) -> Truth:
    """Return a truth. Copies of published sets may lack images.

    Args:
        kind: `real`, `multilabel`, `imagenet-m`, `v2`, `imagenet-s`, `annotations`, `boxes` or `masks`.
        path: Its folder of images; for `annotations`, a dataset folder or `hf:USER/NAME`; for `boxes` and `masks`, see
            `open_boxes` and `open_masks`.
        labels: Label file of `real`, `multilabel`, `imagenet-m` and `v2`; see their readers.
        class_list: List of the original classes, see `read_validation_classes`.
        split: `annotations`: the split.
        min_score: `annotations`: ignore labels that score less.

    Raises:
        EvaluationError: If the kind is unknown, needs `labels`, or cannot be read.
    """
    root = Path(path)
    if kind in ("multilabel", "imagenet-m"):
        if labels is None:
            raise EvaluationError(f"{kind}:{path}: needs a label file, human_accuracy_v3.0.0.json")
        read = {"multilabel": open_multilabel, "imagenet-m": open_imagenet_m}[kind]
        return truth_of_set(read(root, labels, class_list=class_list, partial=True), root)
    sets: dict[str, Callable[[], EvaluationSet]] = {
        "real": lambda: open_real(root, labels, class_list=class_list, partial=True),
        "v2": lambda: open_v2(root, labels, partial=True),
        "imagenet-s": lambda: open_imagenet_s(root),
        "annotations": lambda: open_annotations(
            root, AnnotationStore(path, split), min_score=min_score, needs_images=False
        ),
    }
    if kind in sets:
        return truth_of_set(sets[kind](), root)
    others = {"boxes": open_boxes, "masks": open_masks}
    if kind not in others:
        raise EvaluationError(f"{kind}:{path}: unknown kind of truth; must be one of {', '.join([*sets, *others])}")
    return others[kind](root)
