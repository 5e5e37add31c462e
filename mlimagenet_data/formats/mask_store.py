"""Class-agnostic masks of many images (MaskCut's COCO JSON, 16 GB for ImageNet), found by image without holding them all.

The file is streamed, in any order of its entries, into a temporary SQLite database on disk. So are the classes that the
paper's authors' scripts give to masks (`relabel_results_job_*.pt`: mask id to `label` and `prob`, best first).
"""

from __future__ import annotations

import json
import pickle
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.formats.coco import BadValueError, image_entry, mask_of
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.names import join_key

__all__ = ["MaskStore"]

_TABLES = """
create table images (id text primary key, key text unique, height integer, width integer);
create table masks (place integer, image text, id text, item text);
create table classes (id text primary key, labels text, scores text);
"""
_MOST_REGIONS = 65_535
_FLOAT32_TINY = 1e-45


class MaskStore:
    """Masks by image.

    Args:
        file: COCO JSON; its categories are not read.
        classes: Files that name masks, each `{mask id: {"label": [...], "prob": [...]}}`.
        faults: Collects invalid entries.

    Attributes:
        images: Number of images.
        masks: Number of masks.

    Raises:
        AnnotationError: On entering, if a file is not of its form, or an entry is invalid and `faults` does not skip it.
        ModuleNotFoundError: On entering, if ijson is not installed.
    """

    def __init__(self, file: Path, classes: Sequence[Path], faults: Faults) -> None:
        self._file, self._classes, self._faults = file, classes, faults
        self.images = self.masks = 0

    def __enter__(self) -> MaskStore:
        self._folder = tempfile.TemporaryDirectory()
        self._data = sqlite3.connect(Path(self._folder.name) / "masks.sqlite", isolation_level=None)
        try:
            self._fill()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.images, self.masks = (
            self._data.execute(f"select count(*) from {n}").fetchone()[0] for n in ("images", "masks")
        )
        return self

    def _fill(self) -> None:
        self._data.executescript(f"pragma journal_mode = off; pragma synchronous = off; {_TABLES}")
        self._data.execute("begin")
        self._data.executemany("insert into images values (?, ?, ?, ?)", self._image_rows())
        self._data.executemany("insert into masks values (?, ?, ?, ?)", self._mask_rows())
        self._data.executemany("insert or replace into classes values (?, ?, ?)", self._class_rows())
        self._data.execute("create index of_image on masks (image)")
        self._data.execute("commit")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._data.close()
        self._folder.cleanup()

    def holds(self, key: str) -> bool:
        """Return whether the file has an image with this join key."""
        return self._data.execute("select 1 from images where key = ?", (key,)).fetchone() is not None

    def of(self, key: str) -> dict[str, Any] | None:
        """Return an image's `height`, `width` and `regions`, by join key; None if the file does not have it.

        A region has `mask`, `bbox`, `area`, `alignment`, and, if a file names it, `label`, `score`, `topk_labels` and
        `topk_scores`.
        """
        found = self._data.execute("select id, height, width from images where key = ?", (key,)).fetchone()
        if found is None:
            return None
        image, height, width = found
        regions: list[dict[str, Any]] = []
        query = (
            "select masks.place, masks.item, classes.labels, classes.scores from masks left join classes on "
            "classes.id = masks.id where masks.image = ? order by masks.place"
        )
        for place, item, labels, scores in self._data.execute(query, (image,)).fetchall():
            try:
                if height is None:
                    raise BadValueError("image_id", image, "is an image without height and width, which regions need")
                if len(regions) >= _MOST_REGIONS:
                    raise BadValueError("image_id", image, f"must have at most {_MOST_REGIONS} regions")
                region = {"alignment": None, **mask_of(json.loads(item), (height, width))}
            except BadValueError as error:
                self._faults.add(f"{self._file}: annotations[{place}]", *error.args)
                continue
            if labels is not None:
                named = {"topk_labels": json.loads(labels), "topk_scores": json.loads(scores)}
                region |= {"label": named["topk_labels"][0], "score": named["topk_scores"][0], **named}
            regions.append(region)
        return {"height": height, "width": width, "regions": regions}

    def _items(self, name: str) -> Iterator[Any]:
        """Yield the entries of a list of the file."""
        try:
            import ijson
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}; pip install 'mlimagenet-data[import]'") from error
        count = 0
        try:
            with open(self._file, "rb") as file:
                for item in ijson.items(file, f"{name}.item", use_float=True):
                    count += 1
                    yield item
            if not count:
                with open(self._file, "rb") as file:
                    is_there = any(event == "start_array" for prefix, event, _ in ijson.parse(file) if prefix == name)
        except (ijson.JSONError, UnicodeDecodeError, ValueError, OverflowError) as error:
            raise AnnotationError(f"{self._file}: not JSON, or cut off, after {count} {name}: {error}") from error
        if not count and not is_there:
            raise AnnotationError(f"{self._file}: no list {name!r} at the top level; not a COCO instance file")

    def _image_rows(self) -> Iterator[tuple[Any, ...]]:
        seen = self._data.cursor()
        for place, item in enumerate(self._items("images")):
            try:
                number, row = image_entry(item)
                key, photograph = json.dumps(number), join_key(row["image_id"])
                if seen.execute("select 1 from images where id = ? or key = ?", (key, photograph)).fetchone():
                    raise BadValueError(
                        "file_name", row["file_name"], "repeats the id or the photograph of an earlier image"
                    )
            except BadValueError as error:
                self._faults.add(f"{self._file}: images[{place}]", *error.args)
                continue
            yield key, photograph, row["height"], row["width"]

    def _mask_rows(self) -> Iterator[tuple[Any, ...]]:
        seen = self._data.cursor()
        for place, item in enumerate(self._items("annotations")):
            try:
                if not isinstance(item, dict):
                    raise BadValueError("entry", item, "must be an object")
                image = json.dumps(item.get("image_id"))
                if not seen.execute("select 1 from images where id = ?", (image,)).fetchone():
                    raise BadValueError("image_id", item.get("image_id"), "is not the id of a valid image")
            except BadValueError as error:
                self._faults.add(f"{self._file}: annotations[{place}]", *error.args)
                continue
            kept = {name: item[name] for name in ("segmentation", "grid") if name in item}
            yield place, image, json.dumps(item.get("id")), json.dumps(kept)

    def _class_rows(self) -> Iterator[tuple[Any, ...]]:
        for file in self._classes:
            for number, found in _loaded(file).items():
                try:
                    yield json.dumps(number), *_ranking(found)
                except BadValueError as error:
                    self._faults.add(f"{file}: mask {str(number)[:80]}", *error.args)


def _loaded(file: Path) -> dict[Any, Any]:
    import torch

    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        pickle.PickleError,
    ) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise AnnotationError(f"{file}: not a file of torch.save with plain values only: {reason}") from error
    if not isinstance(found, dict):
        raise AnnotationError(f"{file}: holds a {type(found).__name__}; it must hold a dict of mask ids")
    return found


def _ranking(found: Any) -> tuple[str, str]:
    """Return a mask's classes and their probabilities, best first, as JSON, without probabilities of 0."""
    labels, scores = (found.get(name) if isinstance(found, dict) else None for name in ("label", "prob"))
    if not isinstance(labels, list) or not isinstance(scores, list) or len(labels) != len(scores) or not labels:
        raise BadValueError("label, prob", found, "must be lists of the same length, with at least one class")
    if not all(type(label) is int and 0 <= label < NUM_CLASSES for label in labels) or len({*labels}) != len(labels):
        raise BadValueError("label", labels, f"must be distinct classes from 0 to {NUM_CLASSES - 1}")
    if not all(type(score) is float and 0 <= score <= 1 for score in scores) or not max(scores) > _FLOAT32_TINY:
        raise BadValueError("prob", scores, "must be probabilities in [0, 1], not all 0")
    order = sorted((k for k in range(len(labels)) if scores[k] > _FLOAT32_TINY), key=lambda k: -scores[k])
    return json.dumps([labels[k] for k in order]), json.dumps([scores[k] for k in order])
