"""Parquet files as `datasets` writes image datasets: a column `image` {bytes, path} and, optionally, `label`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from build.config.options import ConfigError
from build.images.class_names import card_labels, class_indices, class_labels
from build.images.containers import NO_LABELS, Container, agreed_class, check_class, check_path
from build.images.listing import ODD_NAMES, ImageInput, Images
from build.images.parquet_rows import ParquetRows
from mlimagenet_data.files.printing import shown
from mlimagenet_data.files.walk import note_examples
from mlimagenet_data.names import class_of_path, image_id_of, without_root

__all__ = ["list_parquet"]


def list_parquet(root: Path, file: Path, left_out: Counter[str], *, unlabelled: bool) -> Images:
    """List the rows of a Parquet file.

    Args:
        root: The listing's root.
        file: A file below it.
        left_out: Counts what is not listed, by reason.
        unlabelled: Ignore labels.

    Raises:
        ConfigError: If the file is damaged, lacks the columns, declares more than it can hold, names unknown classes,
            or a label contradicts the class in a path.
    """
    container, structure = Container.of(root, file), hashlib.sha256()
    with ParquetRows(file, structure) as rows:
        labels = _Labels(True, None) if unlabelled else _labels(rows, file, left_out)
        return container.images(_images(rows, container, labels, left_out), structure)


def _labels(rows: ParquetRows, file: Path, left_out: Counter[str]) -> _Labels:
    """Return how to read the column `label`; count other columns of classes as left out."""
    if not (pa.types.is_integer(rows.label) or pa.types.is_null(rows.label)):
        raise ConfigError(
            f"images: {file}: the column `label` must hold class indices, found {rows.label}; or {NO_LABELS}"
        )
    named = card_labels(file) | class_labels(rows.schema.metadata, file)
    if "label" not in rows.schema.names:
        for name in named:
            left_out[f"labels in a column {shown(name)}, as only `label` is read"] += rows.metadata.num_rows
    return _Labels(False, class_indices(named["label"], file) if "label" in named else None)


@dataclass(frozen=True)
class _Labels:
    """How to read labels: not at all, as places in `classes`, or, if that is None, as class indices."""

    ignored: bool
    classes: list[int] | None

    def of(self, value: int | None, container: Container, row: int) -> int | None:
        """Return the class that a value of the column `label` states."""
        if self.classes is None or value is None or value == -1:
            return check_class(value, container.file, f"row {row}")
        if not 0 <= value < len(self.classes):
            raise ConfigError(
                f"images: {container.file}: row {row}: label {value} must be one of the {len(self.classes)} class names; "
                f"correct it, or {NO_LABELS}"
            )
        return self.classes[value]


def _images(rows: ParquetRows, container: Container, labels: _Labels, left_out: Counter[str]) -> Iterator[ImageInput]:
    size = container.size // max(rows.metadata.num_rows, 1)  # the average image
    not_text, odd = list[str](), list[str]()
    for row, (path, value) in enumerate(rows):
        if isinstance(path, bytes):
            not_text.append(f"{container.name}: {os.fsdecode(path)}")
            continue
        named = without_root(path or f"{container.file.stem}-{row:07d}.jpg")  # some files keep absolute paths
        if (name := check_path(named, container.file)) is None:
            odd.append(f"{container.name}: {named}")
        else:
            yield _image(container, row, name, value, labels, size)
    note_examples(left_out, "paths that are not UTF-8", not_text)
    note_examples(left_out, ODD_NAMES, odd)


def _image(container: Container, row: int, name: str, value: int | None, labels: _Labels, size: int) -> ImageInput:
    if labels.ignored:
        return container.image(image_id_of(name, unlabelled=True), name, None, size=size, position=row)
    label, own = labels.of(value, container, row), class_of_path(name)
    if label is None or own not in (None, label):
        sides = [("its column `label`", label), (f"its path {shown(name)}", own)]
        label = agreed_class(container.file, f"row {row}", sides)
    return container.image(image_id_of(name, label), name, label, size=size, position=row)
