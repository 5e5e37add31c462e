"""ImageNet-V2 (arXiv 1902.10811), with single or multi-label annotations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from mlimagenet_data.classes import NUM_CLASSES, class_of_folder
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example, class_folders, read_json
from mlimagenet_data.evaluate.sets.multilabel_json import MULTI, MultiLabels, multilabels_of

__all__ = ["open_v2"]

_V2 = "https://github.com/modestyachts/ImageNetV2"
_REFINED = "https://github.com/esla/Multilabelfy"
_PER_CLASS = 10


def open_v2(root: Path, labels: Path | None = None, *, partial: bool = False) -> EvaluationSet:
    """Return a test set of ImageNet-V2 (arXiv 1902.10811): folders named by class index, with ten images each.

    With multi-label annotations, skip problematic images and images without annotations.

    Args:
        root: Folder such as `imagenetv2-matched-frequency-format-val`.
        labels: `human_accuracy_v3.0.0.json`, or Multilabelfy's refined labels of the matched-frequency set (Anzaku et
            al., arXiv 2401.17736), which arXiv 2603.05729 uses: a list of class indices per file name. File names match
            with or without extension.
        partial: Accept missing images.

    Raises:
        EvaluationError: If there are not a thousand folders with ten images each, or the labels have another form or
            match no image.
    """
    examples = [Example(file, (label,), (), label) for file, label in class_folders(root, _V2)]
    counts = Counter(example.original for example in examples)
    wrong = [k for k in range(NUM_CLASSES) if counts[k] != _PER_CLASS]
    if not examples or (wrong and not partial):
        raise EvaluationError(
            f"{root / str(wrong[0])}: {counts[wrong[0]]} images; ImageNet-V2 has {_PER_CLASS} per class. Get it from {_V2}"
        )
    if labels is not None:
        known = {PurePosixPath(name).stem: item for name, item in _read_labels(labels).items()}
        if not any(PurePosixPath(example.file).stem in known for example in examples):
            raise EvaluationError(f"{labels}: no annotations of the images in {root}")
        for place, example in enumerate(examples):
            item = known.get(PurePosixPath(example.file).stem)
            correct, unclear = (item.correct, item.unclear) if item else ((), ())
            why = "not annotated" if item is None else "problematic" if item.problematic else ""
            why = why or ("" if correct else "no class is marked correct")
            examples[place] = Example(example.file, correct, unclear, example.original, why)
    return EvaluationSet("ImageNet-V2", root, examples, np.ones(NUM_CLASSES, np.bool_))


def _read_labels(path: Path) -> dict[str, MultiLabels]:
    data = read_json(path, f"{MULTI} or {_REFINED}")
    if not isinstance(data, dict) or "initial_annots" in data:
        return multilabels_of(data, path)
    out = {}
    for name, classes in data.items():
        found = [class_of_folder(str(k)) for k in classes] if isinstance(classes, list) else [None]
        if None in found:
            raise EvaluationError(f"{path}: {name[:80]}: {str(classes)[:80]} is not a list of classes 0 to 999")
        out[name] = MultiLabels(tuple(dict.fromkeys(k for k in found if k is not None)), (), False, False)
    return out
