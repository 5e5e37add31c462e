"""Image-level labels as text: the paper's `multilabel_annotations.tsv`, and CSV."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes

__all__ = ["write_csv", "write_tsv"]


def write_tsv(store: AnnotationStore, path: Path) -> dict[str, int]:
    """Write filename, original class, classes and scores (4 decimals), as the paper publishes them; return the number of lines.

    Left out: regions, images that could not be read, and images without an original label, for which the form has no room.
    """
    lines = 0
    with open(path, "w", encoding="utf-8") as file:
        for row in store.usable_rows().tolist():
            record = store.record(row)
            if record.label is None:
                continue
            classes = ",".join(str(index) for index, _ in record.labels)
            scores = ",".join(f"{max(score, 1e-4):.4f}" for _, score in record.labels)  # 0.0000 would be no label
            file.write(f"{PurePosixPath(record.file_name).name}\t{record.label}\t{classes}\t{scores}\n")
            lines += 1
    return {"lines": lines}


def write_csv(store: AnnotationStore, path: Path) -> dict[str, int]:
    """Write a line for each label of each image: image_id, file_name, class, wnid, name, score, and whether it is the original.

    Left out: regions, and images that could not be read or have no label.
    """
    classes, lines = imagenet_classes(), 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "file_name", "class", "wnid", "name", "score", "is_original"])
        for row in store.usable_rows().tolist():
            record = store.record(row)
            for index, score in record.labels:
                cells = (record.image_id, record.file_name, index, classes.wnids[index], classes.names[index])
                writer.writerow([*cells, f"{score:.6g}", int(index == record.label)])
                lines += 1
    return {"lines": lines}
