"""Reader of `human_accuracy_v3.0.0.json`: expert multi-label annotations of ImageNet validation and ImageNet-V2."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.examples import read_json

__all__ = ["MULTI", "MultiLabels", "multilabels_of", "read_multilabels"]

MULTI = "https://storage.googleapis.com/brain-car-datasets/imagenet-mistakes/human_accuracy_v3.0.0.json"


class MultiLabels(NamedTuple):
    """Annotations of one image from "Evaluating Machine Accuracy on ImageNet", corrected in arXiv 2205.04596.

    Attributes:
        correct: Classes that experts found in the image.
        unclear: Classes that experts disagreed on.
        problematic: Whether to skip the image (wrong original label, drawing, ...).
        major: Whether the image is in ImageNet-M.
    """

    correct: tuple[int, ...]
    unclear: tuple[int, ...]
    problematic: bool
    major: bool


def read_multilabels(path: Path) -> dict[str, MultiLabels]:
    """Read `human_accuracy_v3.0.0.json`: annotations of validation and ImageNet-V2 images, by image name.

    Raises:
        EvaluationError: If the file has another form or an unknown class; the message names the entry.
    """
    return multilabels_of(read_json(path, MULTI), path)


def multilabels_of(data: Any, path: Path) -> dict[str, MultiLabels]:
    """Parse the JSON content of `path`; see `read_multilabels`."""
    parts = {"initial_annots": dict, "problematic_images": dict, "imagenet_m": list}
    for part, kind in parts.items():
        if not isinstance(data, dict) or not isinstance(data.get(part), kind):
            raise EvaluationError(f"{path}: {part}: must be a {kind.__name__}. Get the file from {MULTI}")
    problematic, major = set(data["problematic_images"]), set(map(str, data["imagenet_m"]))
    if missing := major - set(data["initial_annots"]):
        raise EvaluationError(f"{path}: imagenet_m: {min(missing)} is not in initial_annots")
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
        raise EvaluationError(f"{path}: {name}, {field}: {str(wnids)[:80]} is not a list of wnids")
    for wnid in wnids:
        if not isinstance(wnid, str) or wnid not in known:
            raise EvaluationError(f"{path}: {name}, {field}: {str(wnid)[:80]} is not a wnid of ImageNet-1k")
    return tuple(dict.fromkeys(known[wnid] for wnid in wnids))
