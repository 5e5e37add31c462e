"""COCO instance JSON: what pycocotools, FiftyOne and most detection code read.

Masks are stretched to the image, category ids are class indices + 1 (COCO leaves 0 out), and each image has its labels and scores
in fields of our own. Left out: the regions' further classes and alignment, and images that could not be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.store import AnnotationStore, Record
from mlimagenet_data.view import stretch_mask

__all__ = ["write_coco"]


def write_coco(store: AnnotationStore, path: Path) -> dict[str, int]:
    """Write a split; return the number of images and annotations. Rows are written as they are read."""
    counts = {"images": 0, "annotations": 0}
    rows = store.usable_rows()
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {"description": "Multi-label ImageNet"}, "licenses": [],\n"categories": ')
        json.dump(_categories(), file, ensure_ascii=False)
        for name, items in (("images", _images), ("annotations", _annotations)):
            file.write(f',\n"{name}": [')
            for number, item in enumerate(items(store, rows.tolist())):
                file.write(("," if number else "") + "\n" + json.dumps(item, ensure_ascii=False))
                counts[name] += 1
            file.write("]")
        file.write("}\n")
    return counts


def _categories() -> list[dict[str, Any]]:
    classes = imagenet_classes()
    pairs = zip(classes.names, classes.wnids, strict=True)
    return [{"id": k + 1, "name": name, "supercategory": wnid} for k, (name, wnid) in enumerate(pairs)]


def _images(store: AnnotationStore, rows: list[int]) -> Iterator[dict[str, Any]]:
    for row in rows:
        record = store.record(row)
        height, width = record.size or (0, 0)
        yield {
            "id": row, "file_name": record.file_name, "height": height, "width": width,
            "labels": [index + 1 for index, _ in record.labels], "scores": [round(score, 6) for _, score in record.labels],
        }  # fmt: skip


def _annotations(store: AnnotationStore, rows: list[int]) -> Iterator[dict[str, Any]]:
    number = 0
    for row in rows:
        for found in _of(store.record(row)):
            number += 1
            yield {"id": number, "image_id": row, "iscrowd": 0, **found}


def _of(record: Record) -> Iterator[dict[str, Any]]:
    if record.size is None:
        return
    for region in record.regions:
        code = mask_utils.encode(np.asfortranarray(stretch_mask(region.mask, *record.size), np.uint8))
        yield {
            "category_id": region.label + 1, "score": round(region.score, 6),
            "segmentation": {"size": list(record.size), "counts": code["counts"].decode()},
            "bbox": mask_utils.toBbox(code).tolist(), "area": int(mask_utils.area(code)),
        }  # fmt: skip
