"""The original classes of ImageNet's validation images, for copies that hold them all in one folder."""

from __future__ import annotations

import re
from pathlib import Path

from mlimagenet_data.classes import class_of_folder, imagenet_classes
from mlimagenet_data.errors import EvaluationError

__all__ = ["IMAGES", "read_validation_classes"]

IMAGES = 50_000
_MOST = 16 << 20  # bytes; Kaggle's list, with all boxes, has a few million
_NAMED = re.compile(r"(?:\S*/)?ILSVRC2012_val_(\d{8})(?:\.[A-Za-z]+)?[,\s]\s*(\w+)(?:[\s,].*)?")
_LISTS = "lines of an image's name and its class, or 50000 classes in the order of the file numbers"


def read_validation_classes(path: Path) -> dict[int, int]:
    """Return the original class of validation images by file number.

    Args:
        path: A text file. Either each line names an image, then its class, a wnid or an index (Kaggle's `LOC_val_solution.csv`,
            Caffe's `val.txt`). Or it has 50,000 wnids in the order of the file numbers (TensorFlow's
            `imagenet_2012_validation_synset_labels.txt`). The numbers of `ILSVRC2012_validation_ground_truth.txt` in ImageNet's
            development kit are not class indices, and are refused: what they mean is in the kit's `meta.mat`, and the reader
            that there is for such files crashes on damaged ones.

    Raises:
        EvaluationError: If the file has another form, or names an unknown class or an image twice; the message says where.
    """
    lines = _lines(path)
    if lines and lines[0].startswith("ImageId,"):  # Kaggle's header
        lines[0] = ""
    if any(map(_NAMED.fullmatch, lines[:2])):
        return _named(path, lines)
    if len(lines) != IMAGES:
        raise EvaluationError(f"{path}: {len(lines)} lines, the first is {lines[:1]}; wanted {_LISTS}")
    if lines[0].isdigit():
        raise EvaluationError(
            f"{path}: line 1: {lines[0]!r}; a list without names must have wnids: the numbers of ImageNet's development kit are "
            "not class indices. Lists that will do are Kaggle's LOC_val_solution.csv, Caffe's val.txt, and TensorFlow's "
            "imagenet_2012_validation_synset_labels.txt"
        )
    known = imagenet_classes().wnid_to_index
    return {number: _known(path, number, known.get(line), line) for number, line in enumerate(lines, 1)}


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise EvaluationError(f"{path}: no such file; it should have {_LISTS}")
    if path.stat().st_size > _MOST:
        raise EvaluationError(f"{path}: {path.stat().st_size} bytes; it must not have more than {_MOST}")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: no text: {error}; it should have {_LISTS}") from error


def _named(path: Path, lines: list[str]) -> dict[int, int]:
    out: dict[int, int] = {}
    for place, line in enumerate(lines, 1):
        if not line:
            continue
        match = _NAMED.fullmatch(line)
        if match is None:
            raise EvaluationError(f"{path}: line {place}: {line[:80]!r}; it must have an image's name and its class")
        number = int(match[1])
        if number in out:
            raise EvaluationError(f"{path}: line {place}: validation image {number} is there twice")
        out[number] = _known(path, place, class_of_folder(match[2]), match[2])
    return out


def _known(path: Path, place: int, label: int | None, text: str) -> int:
    if label is None:
        raise EvaluationError(f"{path}: line {place}: {text[:80]!r} is no class of ImageNet-1k")
    return label
