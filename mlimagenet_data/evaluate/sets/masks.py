"""Masks of objects, with the ImageNet classes that name them: the reader of `masks:FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlimagenet_data.annotations.masks import parse_counts
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError, EvaluationError
from mlimagenet_data.evaluate.sets.examples import Example, read_json
from mlimagenet_data.evaluate.sets.truth import MaskedObject, MaskImage, MaskTruth, Truth, unique_ids

__all__ = ["open_masks"]

_FORM = "its form is described in docs/evaluation.md"
_MOST_PIXELS = 1 << 26  # of an image and of a mask
_MOST_OBJECTS = 10_000  # per image


def open_masks(folder: Path) -> Truth:
    """Return the objects' masks of a folder, images sorted by id.

    Args:
        folder: Holds `ground_truth.json` (`images`: a list of objects with `image_id`, `height`, `width` and `regions`,
            each with `coco_class`, `area` as a share of the image, `mask` as COCO RLE and, optionally, `iscrowd`) and
            `coco_to_imagenet.json` (`classes`: for each counted class name, a list of ImageNet class indices).

    Raises:
        EvaluationError: If a file has another form; the message names entry and field.
    """
    truth, table = folder / "ground_truth.json", folder / "coco_to_imagenet.json"
    classes = _classes(table)
    data = read_json(truth, f"where you made it; {_FORM}")
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list) or not images:
        raise EvaluationError(f"{truth}: images: must be a list with an object for each image; {_FORM}")
    names = tuple(sorted(classes))
    columns = {name: column for column, name in enumerate(names)}
    found = sorted((_image(truth, number, entry, columns) for number, entry in enumerate(images)), key=lambda i: i[0])
    of_class = np.zeros((NUM_CLASSES, len(names)), np.bool_)
    for name, indices in classes.items():
        of_class[indices, columns[name]] = True
    ids = unique_ids((image_id for image_id, _ in found), truth)
    masks = MaskTruth(names, of_class, tuple(image for _, image in found))
    examples = tuple(Example(image_id, ()) for image_id in ids)
    return Truth("masks of objects", folder, ids, examples, np.ones(NUM_CLASSES, np.bool_), {}, False, None, masks)


def _classes(path: Path) -> dict[str, list[int]]:
    data = read_json(path, f"where you made it; {_FORM}")
    classes = data.get("classes") if isinstance(data, dict) else None
    if not isinstance(classes, dict) or not classes:
        raise EvaluationError(f"{path}: classes: must be an object with a list of class indices for each name; {_FORM}")
    for name, indices in classes.items():
        good = isinstance(indices, list) and all(type(k) is int and 0 <= k < NUM_CLASSES for k in indices)
        if not good:
            rule = f"must be a list of class indices, 0 to {NUM_CLASSES - 1}"
            raise EvaluationError(f"{path}: classes, {name[:80]}: {str(indices)[:80]}: {rule}")
    return classes


def _image(path: Path, number: int, entry: Any, columns: dict[str, int]) -> tuple[str, MaskImage]:
    image_id = entry.get("image_id") if isinstance(entry, dict) else None
    if not isinstance(image_id, str) or not image_id:
        raise EvaluationError(f"{path}: images, entry {number}: {str(entry)[:80]}: must have an image_id; {_FORM}")
    where = f"{path}: {image_id[:200]}"
    size, objects = _size(where, "height, width", entry.get("height"), entry.get("width")), entry.get("regions")
    if not isinstance(objects, list) or len(objects) > _MOST_OBJECTS:
        rule = f"must be a list of at most {_MOST_OBJECTS} objects"
        raise EvaluationError(f"{where}, regions: {str(objects)[:80]}: {rule}")
    found = tuple(_object(f"{where}, regions, entry {k}", item, columns) for k, item in enumerate(objects))
    return image_id, MaskImage(size, found)


def _object(where: str, item: Any, columns: dict[str, int]) -> MaskedObject:
    if not isinstance(item, dict) or not isinstance(item.get("coco_class"), str):
        raise EvaluationError(f"{where}: {str(item)[:80]}: must have a coco_class; {_FORM}")
    area: Any = item.get("area")
    mask: Any = item.get("mask")
    if type(area) not in (int, float) or not 0 <= area <= 1:
        raise EvaluationError(f"{where}, area: {str(area)[:80]}: must be a share of the image, 0 to 1")
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
        raise EvaluationError(f"{where}, mask: {str(mask)[:80]}: must be COCO RLE: an object with size and counts")
    size = mask.get("size")
    if not isinstance(size, list) or len(size) != 2:
        raise EvaluationError(f"{where}, mask.size: {str(size)[:80]}: must be [height, width]")
    checked = _size(where, "mask.size", *size)
    try:
        parse_counts(mask["counts"], checked[0] * checked[1])
    except AnnotationError as error:
        raise EvaluationError(f"{where}, mask.counts: {error}") from error
    column = columns.get(item["coco_class"], -1)
    return MaskedObject(column, bool(item.get("iscrowd")), float(area), checked, mask["counts"])


def _size(where: str, field: str, height: Any, width: Any) -> tuple[int, int]:
    if type(height) is not int or type(width) is not int or min(height, width) < 1 or height * width > _MOST_PIXELS:
        rule = f"must be positive whole numbers with a product of at most {_MOST_PIXELS}"
        raise EvaluationError(f"{where}, {field}: {str(height)[:20]}, {str(width)[:20]}: {rule}")
    return height, width
