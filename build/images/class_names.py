"""Class names of Hugging Face datasets: their indices count the dataset's own names, which may be other classes."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from build.config.options import ConfigError
from build.config.safe_yaml import VALUE_ERRORS, load_yaml
from build.images.containers import NO_LABELS
from mlimagenet_data.classes import NUM_CLASSES, imagenet_classes
from mlimagenet_data.files.printing import printable, shown
from mlimagenet_data.files.reading import open_regular

__all__ = ["card_labels", "class_indices", "class_labels"]

_MOST_CARD = 1 << 20  # bytes that are read
_HEADER = re.compile(r"---[ \t]*\r?\n(.*?\n)---", re.DOTALL)


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


def card_labels(file: Path) -> dict[str, list[str]]:
    """Return the names of each ClassLabel column, from the dataset card (`README.md`) beside a Parquet file or one folder up.

    Raises:
        ConfigError: If the card is damaged, or its configurations name the classes of a column differently.
    """
    cards = (folder / "README.md" for folder in list(file.parents)[:2])
    card = next((path for path in cards if path.is_file()), None)
    if card is None:
        return {}
    try:
        with open_regular(card) as opened:
            header = _HEADER.match(opened.read(_MOST_CARD).decode("utf-8"))
        info = (load_yaml(header[1]) or {}).get("dataset_info", []) if header else []
        pairs = [pair for part in (info if isinstance(info, list) else [info]) for pair in _card_names(part)]
    except (OSError, ValueError, yaml.YAMLError, RecursionError, *VALUE_ERRORS) as error:
        raise ConfigError(
            f"images: {card}: its class names cannot be read ({printable(str(error)[:200])}); correct it, move it away, or "
            f"{NO_LABELS}"
        ) from error
    found: dict[str, list[str]] = {}
    for column, names in pairs:
        if found.setdefault(column, names) != names:
            raise ConfigError(
                f"images: {card}: names the classes of {shown(column)} in two ways; keep one, or {NO_LABELS}"
            )
    return found


def _card_names(info: Any) -> Iterator[tuple[str, list[str]]]:
    for feature in info.get("features") or []:
        kind = feature.get("dtype")
        names = kind.get("class_label", {}).get("names") if isinstance(kind, dict) else None
        if names is not None:
            places = [str(place) for place in range(len(names))]
            named = (
                dict(zip(places, names, strict=True))
                if isinstance(names, list)
                else {str(k): v for k, v in names.items()}
            )
            yield str(feature["name"]), [str(named[place]) for place in places]


def class_indices(names: list[str], file: Path) -> list[int]:
    """Return the ImageNet-1k class of each name.

    A name is a WordNet id, or a class name with or without synonyms (`tench`, `tench, Tinca tinca`). Names that two classes
    share (crane, maillot) are known only at the place of one of these in ImageNet-1k's order. Numbers name nothing, unless
    they are those of all 1000 classes: a dataset of digits has such names, too.

    Raises:
        ConfigError: If a name is none of these, or two classes share it.
    """
    if names == [str(index) for index in range(NUM_CLASSES)]:
        return list(range(NUM_CLASSES))
    return [_class_of(name, place, file) for place, name in enumerate(names)]


def _names(feature: Any) -> list[str] | None:
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel" or feature.get("names") is None:
        return None
    names = feature["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("the names of a ClassLabel must be a list of texts")
    return names


def _class_of(name: str, place: int, file: Path) -> int:
    index = imagenet_classes().wnid_to_index.get(name)
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
