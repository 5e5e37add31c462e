"""COCO instance JSON: what pycocotools, FiftyOne and most detection code read.

Masks are stretched to the image, category ids are class indices + 1 (COCO leaves 0 out). What COCO has no field for stands in
fields of our own: an image's `image_id`, original `label`, `labels`, `scores` and `status`, a region's `score`, `topk_labels`,
`topk_scores` and the `grid` that its mask was stretched from. `mlimagenet import` reads them back. Left out: the regions'
alignment, images that could not be read, and regions of images whose size is unknown. Masks on a grid finer than the image lose
what the image's pixels do not show.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from mlimagenet_data.annotations.store import AnnotationStore, Ranking, Record
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.viewer.sheet import stretch_mask

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
            "id": row, "file_name": record.file_name, "height": height, "width": width, "image_id": record.image_id,
            "label": None if record.label is None else record.label + 1, **_ranking("labels", "scores", record.labels),
            "status": record.status,
        }  # fmt: skip


def _ranking(labels: str, scores: str, ranking: Ranking) -> dict[str, Any]:
    return {labels: [index + 1 for index, _ in ranking], scores: [_short(score) for _, score in ranking]}


def _short(score: float) -> float:
    """Return the number with the fewest digits that is the same float32."""
    return float(str(np.float32(score)))


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
        shrinks = region.mask.shape[0] <= record.size[0] and region.mask.shape[1] <= record.size[1]
        yield {
            "category_id": region.label + 1, "score": _short(region.score),
            "segmentation": {"size": list(record.size), "counts": code["counts"].decode()},
            "bbox": mask_utils.toBbox(code).tolist(), "area": int(mask_utils.area(code)),
            **_ranking("topk_labels", "topk_scores", region.topk), **({"grid": list(region.mask.shape)} if shrinks else {}),
        }  # fmt: skip
