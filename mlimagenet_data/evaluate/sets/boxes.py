"""Boxes of the original class: our JSON file, which may hold label sets as well, or ImageNet's own XML files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import Example, read_json
from mlimagenet_data.evaluate.sets.imagenet_xml import read_xml_boxes
from mlimagenet_data.evaluate.sets.truth import Truth, unique_ids

__all__ = ["open_boxes"]

_FORM = "its form is described in docs/evaluation.md"
_MOST_BOXES = 10_000  # per image
_UNJUDGED = "nobody judged its labels"


def open_boxes(path: Path) -> Truth:
    """Return boxes of the original class, and label sets if the file has them.

    Args:
        path: A JSON object: for each image_id, `original` (class index), `boxes` ([x0, y0, x1, y1] as shares of width
            and height) and, in all entries or in none, `real` (class indices; images with an empty list are skipped).
            Or a folder of ImageNet's XML files, read by `read_xml_boxes`.

    Raises:
        EvaluationError: If the file has another form; the message names entry and field.
    """
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_folder(folder: Path) -> Truth:
    found = read_xml_boxes(folder)
    examples = tuple(Example(item.name, (), (), item.original) for item in found)
    ids = unique_ids((item.image_id for item in found), folder)
    boxes = tuple(item.boxes for item in found)
    return Truth("ImageNet's boxes", folder, ids, examples, np.ones(NUM_CLASSES, np.bool_), {}, False, boxes)


def _of_file(path: Path) -> Truth:
    data = read_json(path, f"where you made it; {_FORM}")
    if not isinstance(data, dict) or not data:
        raise EvaluationError(f"{path}: must be a JSON object with an entry for each image; {_FORM}")
    has_labels = any(isinstance(entry, dict) and "real" in entry for entry in data.values())
    examples, boxes, skipped = [], [], 0
    for name, entry in data.items():
        where = f"{path}: {name[:200]}"
        example, found = _entry(where, name, entry, has_labels)
        if has_labels and not example.valid:
            skipped += 1
            continue
        examples.append(example)
        boxes.append(found)
    ids = unique_ids((example.file for example in examples), path)
    judged, left_out = np.ones(NUM_CLASSES, np.bool_), {_UNJUDGED: skipped} if skipped else {}
    return Truth("boxes", path, ids, tuple(examples), judged, left_out, has_labels, tuple(boxes))


def _entry(where: str, name: str, entry: Any, has_labels: bool) -> tuple[Example, NDArray[np.float64]]:
    if not isinstance(entry, dict):
        raise EvaluationError(f"{where}: {str(entry)[:80]}: must be an object; {_FORM}")
    original, labels, boxes = entry.get("original"), entry.get("real"), entry.get("boxes")
    if not _is_class(original):
        raise EvaluationError(f"{where}, original: {str(original)[:80]}: must be a class index, 0 to {NUM_CLASSES - 1}")
    if has_labels and not (isinstance(labels, list) and all(map(_is_class, labels))):
        rule = f"must be a list of class indices, 0 to {NUM_CLASSES - 1}, in every entry or in none"
        raise EvaluationError(f"{where}, real: {str(labels)[:80]}: {rule}")
    if not isinstance(boxes, list) or len(boxes) > _MOST_BOXES:
        raise EvaluationError(f"{where}, boxes: {str(boxes)[:80]}: must be a list of at most {_MOST_BOXES} boxes")
    for box in boxes:
        if not _is_box(box):
            rule = "must be [x0, y0, x1, y1], shares of the image's width and height with x0 < x1 and y0 < y1"
            raise EvaluationError(f"{where}, boxes: {str(box)[:80]}: {rule}")
    valid = tuple(dict.fromkeys(labels or ()))
    return Example(name, valid, (), original), np.array(boxes, np.float64).reshape(-1, 4)


def _is_class(value: Any) -> bool:
    return type(value) is int and 0 <= value < NUM_CLASSES


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        return False
    x0, y0, x1, y1 = box
    return all(0 <= value <= 1 and math.isfinite(value) for value in box) and x0 < x1 and y0 < y1
