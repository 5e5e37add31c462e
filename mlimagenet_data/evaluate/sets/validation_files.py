"""Find the files of ImageNet's validation set by their numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mlimagenet_data.classes import class_of_folder
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.class_lists import IMAGES, read_validation_classes
from mlimagenet_data.names import class_of_path, validation_number

__all__ = ["validation_files"]


def validation_files(
    root: Path, wanted: Iterable[int] | None, class_list: Path | None
) -> dict[int, tuple[str, int | None]]:
    """Return (path relative to the root, original class if known) by file number, ascending; require all `wanted`."""
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder; get ILSVRC2012_img_val.tar from https://image-net.org")
    listed = read_validation_classes(class_list) if class_list else {}
    found: dict[int, tuple[str, int | None]] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        inside = class_of_folder(entry.name) is not None and entry.is_dir()
        for file in [f"{entry.name}/{name}" for name in sorted(os.listdir(entry.path))] if inside else [entry.name]:
            if (number := validation_number(file)) is not None:
                if number in found:
                    raise EvaluationError(
                        f"{root / file}: duplicate of validation image {number}, {root / found[number][0]}"
                    )
                if not 1 <= number <= IMAGES:
                    raise EvaluationError(f"{root / file}: validation image numbers must be between 1 and {IMAGES}")
                known = class_of_path(file)
                if known is not None and listed.get(number, known) != known:
                    raise EvaluationError(
                        f"{class_list}: image {number} has class {listed[number]}, but {known} in {root / file}"
                    )
                found[number] = (file, listed.get(number, known))
    missing = sorted(set(wanted or ()) - set(found))
    if missing or not found:
        what = f"{len(missing)} validation images are missing; the first is" if missing else "no image is named like"
        raise EvaluationError(f"{root}: {what} ILSVRC2012_val_{(missing or [1])[0]:08d}.JPEG")
    return dict(sorted(found.items()))
