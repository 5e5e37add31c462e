"""ImageNet's validation images with other labels: ReaL, and the multi-label annotations with their slice ImageNet-M.

Images are named `ILSVRC2012_val_00000001.JPEG` (or `..._n01751748.JPEG`, as on the Hugging Face Hub), in one folder or in class
folders. Top-1 and the mean over classes need the original class: it is the class folder's, the name's, or a list's (`originals`).
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlimagenet_data.classes import NUM_CLASSES, class_of_folder, imagenet_classes
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example, read_json
from mlimagenet_data.evaluate.sets.originals import IMAGES, read_originals

__all__ = [
    "MULTI",
    "MultiLabels",
    "multilabels_of",
    "open_imagenet_m",
    "open_multilabel",
    "open_real",
    "read_multilabels",
]

_REAL = "https://github.com/google-research/reassessed-imagenet (real.json)"
MULTI = "https://storage.googleapis.com/brain-car-datasets/imagenet-mistakes/human_accuracy_v3.0.0.json"
_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?\.[A-Za-z]+")


class MultiLabels(NamedTuple):
    """The annotations of one image of "Evaluating Machine Accuracy on ImageNet", corrected in arXiv 2205.04596.

    Attributes:
        correct: Classes that experts found in the image.
        unclear: Classes that they did not agree on.
        problematic: Whether the image should be left out (its original label is wrong, it is a drawing, ...).
        major: Whether it is in ImageNet-M.
    """

    correct: tuple[int, ...]
    unclear: tuple[int, ...]
    problematic: bool
    major: bool


def open_real(
    root: Path, labels: Path | None = None, *, originals: Path | None = None, partial: bool = False
) -> EvaluationSet:
    """Return ImageNet's validation images with ReaL labels ("Are we done with ImageNet?", arXiv 2006.07159).

    Images whose list is empty are skipped, as the paper does: raters found that no class fits. The mean of `is_right` is ReaL
    accuracy.

    Args:
        root: Folder of the validation images.
        labels: `real.json`: 50,000 lists of class indices, by file number; None: the copy that comes with timm.
        originals: A list of the original classes, see `read_originals`; None: class folders or names say them.
        partial: Whether images may be missing.

    Raises:
        EvaluationError: If the file does not hold 50,000 lists of classes, or images are missing; the message says which.
    """
    if labels is None:
        labels = _timms_real()
    lists = read_json(labels, _REAL)
    if not isinstance(lists, list) or len(lists) != IMAGES:
        found = f"{len(lists)} entries" if isinstance(lists, list) else type(lists).__name__
        raise EvaluationError(f"{labels}: {found}; it must be a list of {IMAGES} lists. Get it from {_REAL}")
    for number, classes in enumerate(lists):
        if not isinstance(classes, list) or any(type(k) is not int or not 0 <= k < NUM_CLASSES for k in classes):
            raise EvaluationError(f"{labels}: entry {number}: {str(classes)[:80]} is no list of classes 0 to 999")
    files = _validation_files(root, None if partial else range(1, IMAGES + 1), originals)
    examples = []
    for number, (file, original) in files.items():
        classes = tuple(dict.fromkeys(lists[number - 1]))
        examples.append(Example(file, classes, (), original, "" if classes else "no class fits"))
    return EvaluationSet("ImageNet ReaL", root, examples, np.ones(NUM_CLASSES, np.bool_))


def _timms_real() -> Path:
    spec = importlib.util.find_spec("timm")  # imports nothing
    if spec is None or spec.origin is None:
        raise EvaluationError(
            f"timm, which has a copy of ReaL's labels, is not installed; name the file itself: {_REAL}"
        )
    return Path(spec.origin).with_name("data") / "_info" / "imagenet_real_labels.json"


def open_multilabel(root: Path, labels: Path, *, originals: Path | None = None, partial: bool = False) -> EvaluationSet:
    """Return the 20,000 validation images with multi-label annotations; problematic ones are skipped.

    The mean of `is_right` over original classes (`class_mean`) is multi-label accuracy as published.

    Args:
        root: Folder of the validation images.
        labels: `human_accuracy_v3.0.0.json`.
        originals: A list of the original classes, see `read_originals`; None: class folders or names say them.
        partial: Whether images may be missing.

    Raises:
        EvaluationError: If the file is not such annotations, or images are missing.
    """
    return _open_annotated("ImageNet multi-label", root, _of_validation(read_multilabels(labels)), originals, partial)


def open_imagenet_m(root: Path, labels: Path, *, originals: Path | None = None, partial: bool = False) -> EvaluationSet:
    """Return ImageNet-M, the 68 validation images on which the best models of 2022 made major mistakes (arXiv 2205.04596).

    Args:
        root: Folder of the validation images.
        labels: `human_accuracy_v3.0.0.json`.
        originals: A list of the original classes, see `read_originals`; None: class folders or names say them.
        partial: Whether images may be missing.

    Raises:
        EvaluationError: If the file is not such annotations, has no ImageNet-M, or images are missing.
    """
    found = {n: item._replace(problematic=False) for n, item in _of_validation(read_multilabels(labels)).items()}
    major = {number: item for number, item in found.items() if item.major}
    if not major:
        raise EvaluationError(f"{labels}: its imagenet_m is empty; version 3.0.0 has it: {MULTI}")
    return _open_annotated("ImageNet-M", root, major, originals, partial)


def _open_annotated(
    name: str, root: Path, labels: dict[int, MultiLabels], originals: Path | None, partial: bool
) -> EvaluationSet:
    files = _validation_files(root, None if partial else labels, originals)
    examples = []
    for number, (file, original) in files.items():
        if item := labels.get(number):
            why = "problematic" if item.problematic else "" if item.correct else "no class is marked correct"
            examples.append(Example(file, item.correct, item.unclear, original, why))
    return EvaluationSet(name, root, examples, np.ones(NUM_CLASSES, np.bool_))


def read_multilabels(path: Path) -> dict[str, MultiLabels]:
    """Return the annotations in `human_accuracy_v3.0.0.json`, by image name: those of validation images and of ImageNet-V2.

    Raises:
        EvaluationError: If the file has another form, or names an unknown class; the message says where.
    """
    return multilabels_of(read_json(path, MULTI), path)


def multilabels_of(data: Any, path: Path) -> dict[str, MultiLabels]:
    """Return the annotations in what `path` holds; see `read_multilabels`."""
    parts = {"initial_annots": dict, "problematic_images": dict, "imagenet_m": list}
    for part, kind in parts.items():
        if not isinstance(data, dict) or not isinstance(data.get(part), kind):
            raise EvaluationError(f"{path}: {part}: there must be a {kind.__name__} of that name. Get it from {MULTI}")
    problematic, major = set(data["problematic_images"]), set(map(str, data["imagenet_m"]))
    if missing := major - set(data["initial_annots"]):
        raise EvaluationError(f"{path}: imagenet_m: {min(missing)} is not among initial_annots")
    return {
        name: MultiLabels(
            _classes(path, name, "correct", item), _classes(path, name, "unclear", item), name in problematic, name in major
        )
        for name, item in data["initial_annots"].items()
    }  # fmt: skip


def _classes(path: Path, name: str, field: str, item: Any) -> tuple[int, ...]:
    wnids = item.get(field, []) if isinstance(item, dict) else None
    known = imagenet_classes().wnid_to_index
    if not isinstance(wnids, list):
        raise EvaluationError(f"{path}: {name}, {field}: {str(wnids)[:80]} is no list of wnids")
    for wnid in wnids:
        if not isinstance(wnid, str) or wnid not in known:
            raise EvaluationError(f"{path}: {name}, {field}: {str(wnid)[:80]} is no wnid of ImageNet-1k")
    return tuple(dict.fromkeys(known[wnid] for wnid in wnids))


def _of_validation(labels: dict[str, MultiLabels]) -> dict[int, MultiLabels]:
    """Return the annotations of validation images by their number."""
    matches = ((_NAME.fullmatch(name), item) for name, item in labels.items())
    return {int(match[1]): item for match, item in matches if match}


def _validation_files(
    root: Path, wanted: Iterable[int] | None, originals: Path | None
) -> dict[int, tuple[str, int | None]]:
    """Return (path below the root, original class if known) by file number, ascending; all `wanted` ones must be there."""
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder; get ILSVRC2012_img_val.tar from https://image-net.org")
    listed = read_originals(originals) if originals else {}
    found: dict[int, tuple[str, int | None]] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        label = class_of_folder(entry.name)
        inside = entry.is_dir() and label is not None
        for name in sorted(os.listdir(entry.path)) if inside else [entry.name]:
            if match := _NAME.fullmatch(name):
                file, number = f"{entry.name}/{name}" if inside else name, int(match[1])
                if number in found:
                    raise EvaluationError(f"{root / file}: {root / found[number][0]} is validation image {number}, too")
                if not 1 <= number <= IMAGES:
                    raise EvaluationError(f"{root / file}: validation images have numbers from 1 to {IMAGES}")
                known = label if inside else imagenet_classes().wnid_to_index.get(match[2] or "")
                if known is not None and listed.get(number, known) != known:
                    raise EvaluationError(
                        f"{originals}: image {number} has the class {listed[number]}, {root / file} says {known}"
                    )
                found[number] = (file, listed.get(number, known))
    missing = sorted(set(wanted or ()) - set(found))
    if missing or not found:
        what = f"{len(missing)} validation images are missing, the first is" if missing else "no image is named like"
        raise EvaluationError(f"{root}: {what} ILSVRC2012_val_{(missing or [1])[0]:08d}.JPEG")
    return dict(sorted(found.items()))
