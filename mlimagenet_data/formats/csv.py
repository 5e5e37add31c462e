"""Write image-level labels as CSV, one line per label."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes

__all__ = ["write_csv"]


def write_csv(
    store: AnnotationStore,
    path: Path,
    rows: Sequence[int] | None = None,
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, int]:
    """Write one line per label: image_id, file_name, class, wnid, name, score, and whether it is the original label.

    Omitted: regions, and images that could not be read or have no label.

    Args:
        store: The split.
        path: The file.
        rows: Rows of readable images to write; None writes all.
        advance: Called with 1 per image.

    Returns:
        The numbers of lines, and of images without labels.
    """
    classes, lines, unlabelled = imagenet_classes(), 0, 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "file_name", "class", "wnid", "name", "score", "is_original"])
        for row in store.usable_rows().tolist() if rows is None else rows:
            record = store.record(row)
            advance(1)
            unlabelled += not record.labels
            for index, score in record.labels:
                cells = (record.image_id, record.file_name, index, classes.wnids[index], classes.names[index])
                writer.writerow([*cells, f"{score:.6g}", int(index == record.label)])
                lines += 1
    return {"lines": lines, "images_without_labels": unlabelled}
