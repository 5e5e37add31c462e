"""Lists of the original classes of ImageNet's validation images, for copies that hold all images in one folder."""

from __future__ import annotations

import re
from pathlib import Path

from mlimagenet_data.classes import class_of_folder, imagenet_classes
from mlimagenet_data.errors import EvaluationError

__all__ = ["IMAGES", "read_validation_classes"]

IMAGES = 50_000
_MOST = 16 << 20  # bytes; Kaggle's list, which includes boxes, has a few million
_NAMED = re.compile(r"(?:\S*/)?ILSVRC2012_val_(\d{8})(?:\.[A-Za-z]+)?[,\s]\s*(\w+)(?:[\s,].*)?")
_LISTS = "lines with an image name and its class, or 50000 classes in file number order"


def read_validation_classes(path: Path) -> dict[int, int]:
    """Read the original classes of validation images, by file number.

    Args:
        path: A text file in one of two forms. Each line names an image and its class, as wnid or index (Kaggle's
            `LOC_val_solution.csv`, Caffe's `val.txt`). Or the file holds 50,000 wnids in file number order
            (TensorFlow's `imagenet_2012_validation_synset_labels.txt`). The numbers in
            `ILSVRC2012_validation_ground_truth.txt` of ImageNet's development kit are rejected because they are not
            class indices. Their meaning is in the kit's `meta.mat`, and the available reader for that format crashes on
            damaged files.

    Raises:
        EvaluationError: If the file has another form, an unknown class or a duplicate image; the message names the
            line.
    """
    lines = _lines(path)
    if lines and lines[0].startswith("ImageId,"):  # Kaggle's header
        lines[0] = ""
    if any(map(_NAMED.fullmatch, lines[:2])):
        return _named(path, lines)
    if len(lines) != IMAGES:
        raise EvaluationError(f"{path}: {len(lines)} lines, the first is {lines[:1]}; must have {_LISTS}")
    if lines[0].isdigit():
        raise EvaluationError(
            f"{path}: line 1: {lines[0]!r}; a list without image names must hold wnids: the numbers of ImageNet's "
            "development kit are not class indices. Use Kaggle's LOC_val_solution.csv, Caffe's val.txt, or TensorFlow's "
            "imagenet_2012_validation_synset_labels.txt"
        )
    known = imagenet_classes().wnid_to_index
    return {number: _known(path, number, known.get(line), line) for number, line in enumerate(lines, 1)}


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise EvaluationError(f"{path}: no such file; must have {_LISTS}")
    if path.stat().st_size > _MOST:
        raise EvaluationError(f"{path}: {path.stat().st_size} bytes; must have at most {_MOST}")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: not text: {error}; must have {_LISTS}") from error


def _named(path: Path, lines: list[str]) -> dict[int, int]:
    out: dict[int, int] = {}
    for place, line in enumerate(lines, 1):
        if not line:
            continue
        match = _NAMED.fullmatch(line)
        if match is None:
            raise EvaluationError(f"{path}: line {place}: {line[:80]!r}; must have an image name and its class")
        number = int(match[1])
        if number in out:
            raise EvaluationError(f"{path}: line {place}: duplicate validation image {number}")
        out[number] = _known(path, place, class_of_folder(match[2]), match[2])
    return out


def _known(path: Path, place: int, label: int | None, text: str) -> int:
    if label is None:
        raise EvaluationError(f"{path}: line {place}: {text[:80]!r} is not a class of ImageNet-1k")
    return label
