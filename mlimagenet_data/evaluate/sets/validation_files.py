"""Find the files of ImageNet's validation set by their numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mlimagenet_data.classes import class_of_folder, imagenet_classes
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.class_lists import IMAGES, read_validation_classes
from mlimagenet_data.names import validation_number

__all__ = ["validation_files"]


def validation_files(
    root: Path, wanted: Iterable[int] | None, class_list: Path | None
) -> dict[int, tuple[str, int | None]]:
    """Return (path below the root, original class if known) by file number, ascending; all `wanted` ones must be there."""
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder; get ILSVRC2012_img_val.tar from https://image-net.org")
    listed = read_validation_classes(class_list) if class_list else {}
    found: dict[int, tuple[str, int | None]] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        label = class_of_folder(entry.name)
        inside = entry.is_dir() and label is not None
        for name in sorted(os.listdir(entry.path)) if inside else [entry.name]:
            if match := validation_number(name):
                file, number = f"{entry.name}/{name}" if inside else name, match[0]
                if number in found:
                    raise EvaluationError(f"{root / file}: {root / found[number][0]} is validation image {number}, too")
                if not 1 <= number <= IMAGES:
                    raise EvaluationError(f"{root / file}: validation images have numbers from 1 to {IMAGES}")
                known = label if inside else imagenet_classes().wnid_to_index.get(match[1] or "")
                if known is not None and listed.get(number, known) != known:
                    raise EvaluationError(
                        f"{class_list}: image {number} has the class {listed[number]}, {root / file} says {known}"
                    )
                found[number] = (file, listed.get(number, known))
    missing = sorted(set(wanted or ()) - set(found))
    if missing or not found:
        what = f"{len(missing)} validation images are missing, the first is" if missing else "no image is named like"
        raise EvaluationError(f"{root}: {what} ILSVRC2012_val_{(missing or [1])[0]:08d}.JPEG")
    return dict(sorted(found.items()))
