"""Read and write COCO instance JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from mlimagenet_data.annotations.masks import stretch_mask
from mlimagenet_data.annotations.records import Ranking, Record
from mlimagenet_data.annotations.schema import STATUSES
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.formats.faults import Faults, shortened
from mlimagenet_data.formats.regions import mask_columns
from mlimagenet_data.names import class_of_path, image_id_of, is_plain_path, join_key

__all__ = ["BadValueError", "image_entry", "load_coco", "mask_of", "read_coco", "write_coco"]


def write_coco(
    store: AnnotationStore,
    path: Path,
    rows: Sequence[int] | None = None,
    *,
    first_id: int = 1,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, int]:
    """Stream images to a file; return the numbers of images, of annotations, and of images without a size.

    Args:
        store: The split.
        path: The file.
        rows: Rows of readable images to write; None writes all.
        first_id: Id of the first annotation. Images without a size get none.
        advance: Called with 1 per image.
    """
    rows = store.usable_rows().tolist() if rows is None else rows
    counts = {"images": 0, "annotations": 0, "images_without_size": 0}
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {"description": "Multi-label ImageNet"}, "licenses": [],\n"categories": ')
        json.dump(_categories(), file, ensure_ascii=False)
        for name, items in (
            ("images", _images(store, rows)),
            ("annotations", _annotations(store, rows, first_id, advance)),
        ):
            file.write(f',\n"{name}": [')
            for number, item in enumerate(items):
                file.write(("," if number else "") + "\n" + json.dumps(item, ensure_ascii=False))
                counts[name] += 1
                counts["images_without_size"] += name == "images" and not item["height"]
            file.write("]")
        file.write("}\n")
    return counts


def _categories() -> list[dict[str, Any]]:
    classes = imagenet_classes()
    pairs = zip(classes.names, classes.wnids, strict=True)
    return [{"id": k + 1, "name": name, "supercategory": wnid} for k, (name, wnid) in enumerate(pairs)]


def _images(store: AnnotationStore, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
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
    """Return the shortest decimal that rounds to the same float32."""
    return float(str(np.float32(score)))


def _annotations(
    store: AnnotationStore, rows: Sequence[int], first_id: int, advance: Callable[[int], object]
) -> Iterator[dict[str, Any]]:
    number = itertools.count(first_id)
    for row in rows:
        for found in _of(store.record(row)):
            yield {"id": next(number), "image_id": row, "iscrowd": 0, **found}
        advance(1)


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


_MOST_BYTES = 1 << 30


def load_coco(file: Path) -> dict[str, list[Any]]:
    """Return the lists `categories`, `images` and `annotations` of a COCO file.

    Raises:
        AnnotationError: If the file is too large, is not JSON, or lacks one of the lists.
    """
    if (size := file.stat().st_size) > _MOST_BYTES:
        raise AnnotationError(f"{file}: {size} bytes; it must have at most {_MOST_BYTES}: split it by images")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{file}: not JSON: {error}") from error
    names = ("categories", "images", "annotations")
    for name in names:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise AnnotationError(f"{file}: no list {name!r} at the top level; not a COCO instance file")
    return {name: content[name] for name in names}


def read_coco(file: Path, faults: Faults) -> Iterator[dict[str, Any]]:
    """Yield one row per image, in file order.

    Categories are matched by a WordNet id in `supercategory` or `name`, or by the class name. The fields that our own
    export adds are used if present: an image's `image_id`, `label`, `labels`, `scores` and `status`; an annotation's
    `score`, `grid`, `topk_labels` and `topk_scores`. Without them, the image_id is derived from the file name, the
    labels are the classes of the regions, each with its best score, and a region's score is 1. Boxes and areas are
    computed from the masks.

    Args:
        file: The COCO file.
        faults: Collects invalid categories, images and annotations.

    Raises:
        AnnotationError: If the file is not a COCO file, or an entry is invalid and `faults` does not skip it; the
            message names file, entry, field and value.
    """
    content = load_coco(file)
    reader = _Reader(file, faults)
    reader.categories(content["categories"])
    reader.images(content["images"])
    reader.annotations(content["annotations"])
    for row in reader.rows.values():
        if "labels" not in row:
            best: dict[int, float] = {}
            for region in row["regions"]:
                best[region["label"]] = max(best.get(region["label"], 0.0), region["score"])
            row["labels"], row["scores"] = _ranked(list(best), list(best.values()))
        row.setdefault("status", "ok" if row["regions"] else "no_regions")
        yield row


def image_entry(item: Any) -> tuple[Any, dict[str, Any]]:
    """Return the id of an entry of `images`, and its name, id and size as a row; raise BadValueError if it is invalid."""
    if not isinstance(item, dict):
        raise BadValueError("entry", item, "must be an object")
    reader = _Reader(Path(), Faults(skip=False))
    reader._image({name: item[name] for name in ("id", "file_name", "height", "width") if name in item})
    ((key, row),) = reader.rows.items()
    return key, row


class BadValueError(Exception):
    """An invalid value: field, value, rule."""


class _Reader:
    """Converts entries to rows, by COCO image id."""

    def __init__(self, file: Path, faults: Faults) -> None:
        self.file, self.faults = file, faults
        self.rows: dict[Any, dict[str, Any]] = {}
        self._classes: dict[Any, int] = {}
        self._names: dict[str, str] = {}  # by join key

    def categories(self, items: list[Any]) -> None:
        self._each("categories", items, self._category)

    def images(self, items: list[Any]) -> None:
        self._each("images", items, self._image)

    def annotations(self, items: list[Any]) -> None:
        self._each("annotations", items, self._annotation)

    def _each(self, name: str, items: list[Any], take: Any) -> None:
        for number, item in enumerate(items):
            try:
                if not isinstance(item, dict):
                    raise BadValueError("entry", item, "must be an object")
                take(item)
            except BadValueError as error:
                self.faults.add(f"{self.file}: {name}[{number}]", *error.args)

    def _category(self, item: dict[str, Any]) -> None:
        classes, key = imagenet_classes(), _key(item, "id")
        if key in self._classes:
            raise BadValueError("id", key, "repeats the id of an earlier category")
        for text in (item.get("supercategory"), item.get("name")):
            if isinstance(text, str) and text in classes.wnid_to_index:
                self._classes[key] = classes.wnid_to_index[text]
                return
        name = item.get("name")
        if not isinstance(name, str) or name not in classes.names:
            rule = "is not an ImageNet class; use the class name, or put its WordNet id in `supercategory`"
            raise BadValueError("name", name, rule)
        self._classes[key] = classes.names.index(name)

    def _image(self, item: dict[str, Any]) -> None:
        key, name = _key(item, "id"), item.get("file_name")
        if key in self.rows:
            raise BadValueError("id", key, "repeats the id of an earlier image")
        if not isinstance(name, str) or not _is_text(name) or not is_plain_path(name):
            raise BadValueError("file_name", name, "must be a relative path inside the split folder")
        label = class_of_path(name)
        if "label" in item:
            label = None if item["label"] is None else self._class(item["label"], "label")
        image_id = item.get("image_id", image_id_of(name, label))
        if not _is_text(image_id) or not image_id or len(image_id) >= 10_000:
            raise BadValueError("image_id", image_id, "must be non-empty text of fewer than 10,000 characters")
        photograph = join_key(image_id)
        if photograph in self._names:
            other = shortened(self._names[photograph])
            raise BadValueError("file_name", name, f"and {other} would both be image {image_id}; rename or remove one")
        row = {"image_id": image_id, "file_name": name, "label": label, **_size(item), "regions": []}
        if "labels" in item or "scores" in item:
            row["labels"], row["scores"] = self._ranking(item, "labels", "scores")
        if "status" in item:
            row["status"] = item["status"]
            if not isinstance(item["status"], str) or item["status"] not in STATUSES:
                raise BadValueError("status", item["status"], f"must be one of {', '.join(STATUSES)}")
        self._names[photograph] = name
        self.rows[key] = row

    def _annotation(self, item: dict[str, Any]) -> None:
        key = _key(item, "image_id")
        if key not in self.rows:
            raise BadValueError("image_id", key, "is not the id of a valid image")
        row = self.rows[key]
        label, score = self._class(item.get("category_id"), "category_id"), _score(item.get("score", 1.0), "score")
        region: dict[str, Any] = {
            "alignment": None, "label": label, "score": score, "topk_labels": [label], "topk_scores": [score]
        }  # fmt: skip
        if "topk_labels" in item or "topk_scores" in item:
            region["topk_labels"], region["topk_scores"] = self._ranking(item, "topk_labels", "topk_scores")
        if row["height"] is None:
            raise BadValueError("image_id", key, "is an image without height and width, which regions need")
        region |= mask_of(item, (row["height"], row["width"]))
        if len(row["regions"]) >= 65_535:
            raise BadValueError("image_id", key, "must have at most 65,535 regions")
        row["regions"].append(region)

    def _class(self, value: Any, field: str) -> int:
        if type(value) not in (int, str) or value not in self._classes:
            raise BadValueError(field, value, "is not the id of a valid category")
        return self._classes[value]

    def _ranking(self, item: dict[str, Any], labels: str, scores: str) -> tuple[list[int], list[float]]:
        values, numbers = item.get(labels), item.get(scores)
        if not isinstance(values, list) or not isinstance(numbers, list) or len(values) != len(numbers):
            raise BadValueError(labels, values, f"and {scores} must be lists of the same length")
        found = [self._class(value, labels) for value in values]
        if len(set(found)) != len(found):
            raise BadValueError(labels, values, "must not repeat a class")
        return _ranked(found, [_score(number, scores) for number in numbers])


def _ranked(labels: list[int], scores: list[float]) -> tuple[list[int], list[float]]:
    order = sorted(range(len(labels)), key=lambda k: -scores[k])
    return [labels[k] for k in order], [scores[k] for k in order]


def _key(item: dict[str, Any], field: str) -> Any:
    value = item.get(field)
    if type(value) not in (int, str):
        raise BadValueError(field, value, "must be an integer or text")
    return value


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _score(value: Any, field: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1 or not np.float32(value) > 0:
        raise BadValueError(field, value, "must be a score in (0, 1]")
    return float(value)


def _size(item: dict[str, Any]) -> dict[str, int | None]:
    height, width = item.get("height"), item.get("width")
    if height in (None, 0) and width in (None, 0):
        return {"height": None, "width": None}
    for field, value in (("height", height), ("width", width)):
        if type(value) is not int or not 0 < value < 1 << 31:
            raise BadValueError(field, value, "must be a positive integer below 2,147,483,648")
    return {"height": height, "width": width}


def mask_of(item: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return `mask`, `bbox` and `area` of an annotation of an image of (height, width); raise BadValueError if invalid."""
    code, grid = item.get("segmentation"), item.get("grid")
    if not isinstance(code, dict):
        raise BadValueError("segmentation", code, "must be RLE; convert polygons with pycocotools")
    if code.get("size") != list(size):
        raise BadValueError(
            "segmentation.size", code.get("size"), f"must equal the image's size, {size[0]} x {size[1]}"
        )
    is_grid = isinstance(grid, list) and len(grid) == 2 and all(type(side) is int and side > 0 for side in grid)
    if grid is not None and not is_grid:
        raise BadValueError("grid", grid, "must be a pair of positive integers")
    try:
        return mask_columns(size, code.get("counts"), tuple(grid) if grid is not None else None)
    except AnnotationError as error:
        raise BadValueError("segmentation.counts", code.get("counts"), str(error)) from error
