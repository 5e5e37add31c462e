"""Class names of Hugging Face datasets: their indices count the dataset's own names, which may be other classes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from build.config.options import ConfigError
from build.images.containers import NO_LABELS
from mlimagenet_data.classes import class_of_folder, imagenet_classes
from mlimagenet_data.files.printing import printable, shown

__all__ = ["class_indices", "class_labels"]


def class_labels(metadata: dict[bytes, bytes] | None, file: Path) -> dict[str, list[str]]:
    """Return the names of each ClassLabel column, from a Parquet file's metadata as `datasets` writes it.

    Raises:
        ConfigError: If the metadata is damaged.
    """
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        found = {name: _names(feature) for name, feature in features.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"images: {file}: its metadata `huggingface` is damaged ({printable(str(error)[:200])}); save the dataset again, "
            f"or {NO_LABELS}"
        ) from error
    return {name: names for name, names in found.items() if names is not None}


def class_indices(names: list[str], file: Path) -> list[int]:
    """Return the ImageNet-1k class of each name.

    A name is a WordNet id, a class index, or a class name with or without synonyms (`tench`, `tench, Tinca tinca`).
    Names that two classes share (crane, maillot) are known only at the place of one of these in ImageNet-1k's order.

    Raises:
        ConfigError: If a name is none of these, or two classes share it.
    """
    return [_class_of(name, place, file) for place, name in enumerate(names)]


def _names(feature: Any) -> list[str] | None:
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel" or feature.get("names") is None:
        return None
    names = feature["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("the names of a ClassLabel must be a list of texts")
    return names


def _class_of(name: str, place: int, file: Path) -> int:
    index = class_of_folder(name)
    alike = (_by_name().get(name) or _by_name().get(name.partition(",")[0], [])) if index is None else [index]
    if place in alike:
        return place
    if len(alike) == 1:
        return alike[0]
    reason = f"could be class {' or '.join(map(str, alike))}" if alike else "is no ImageNet-1k class"
    raise ConfigError(
        f"images: {file}: class name {shown(name)} (number {place} in the column `label`) {reason}; write a class's "
        f"WordNet id instead, or {NO_LABELS}"
    )


@functools.cache
def _by_name() -> dict[str, list[int]]:
    """Return the classes of each name, with and without the qualifier that tells it from a like one."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(imagenet_classes().names):
        for form in {name, name.partition(" (")[0]}:
            found.setdefault(form, []).append(index)
    return found
