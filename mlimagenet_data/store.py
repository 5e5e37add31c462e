"""Opens a built dataset and gives its rows to the loader.

The columns that training needs are read once into Arrow memory (reading rows through `datasets` costs 0.1 to 0.4 ms each).
Everything a file says is checked before it is used: it may come from a stranger.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError
from mlimagenet_data.masks import decode_mask

__all__ = ["AnnotationStore", "Record", "RegionRecord"]

_COLUMNS = ["image_id", "file_name", "label", "height", "width", "labels", "scores", "regions", "status"]
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """One region of an image.

    Attributes:
        mask: (gh, gw) bool, on the patch grid; it covers the whole image.
        label: Best class.
        score: Its score in (0, 1].
        topk: (class, score) pairs, best first.
    """

    mask: NDArray[np.bool_]
    label: int
    score: float
    topk: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One image's annotations.

    Attributes:
        image_id: Stable key, `<wnid>/<stem>`.
        file_name: Path below the split folder, `/`-separated.
        label: Original class, None where there was none.
        size: (height, width) in pixels after EXIF orientation; None where the file could not be read.
        labels: (class, score) pairs of the image, best first.
        regions: The regions.
        status: One of `mlimagenet_data.schema.STATUSES`.
    """

    image_id: str
    file_name: str
    label: int | None
    size: tuple[int, int] | None
    labels: tuple[tuple[int, float], ...]
    regions: tuple[RegionRecord, ...]
    status: str


class AnnotationStore:
    """The annotations of one split, by position.

    Args:
        folder: A dataset folder, as `python -m build.run` writes it (`data/{split}-*.parquet`).
        split: Name of the split.

    Raises:
        AnnotationsNotFoundError: If the folder or the split is not there.
        AnnotationError: If a shard is missing, cannot be read, or breaks the schema.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str) -> None:
        self.folder = Path(folder)
        self.split = split
        self._files = _find_shards(self.folder, split)
        self._table = _read_table(self._files)
        self.file_names: list[str] = self._table["file_name"].to_pylist()
        self.statuses: list[str] = self._table["status"].to_pylist()
        _check_file_names(self.folder, self.file_names)

    def __len__(self) -> int:
        return len(self.file_names)

    def __repr__(self) -> str:
        return (
            f"AnnotationStore({str(self.folder)!r}, split={self.split!r}, rows={len(self)}, shards={len(self._files)})"
        )

    @property
    def original_labels(self) -> list[int | None]:
        """The original class of each row."""
        labels: list[int | None] = self._table["label"].to_pylist()
        return labels

    def record(self, row: int) -> Record:
        """Return one row.

        Raises:
            AnnotationError: If the row breaks the schema; the message names file, row and field.
        """
        raw = self._table.slice(row, 1).to_pylist()[0]
        try:
            return _to_record(raw)
        except (AnnotationError, TypeError, KeyError, ValueError) as error:
            raise AnnotationError(
                f"{self.folder}: split {self.split}, row {row} ({raw.get('image_id')!r}): {error}"
            ) from error


def _find_shards(folder: Path, split: str) -> list[Path]:
    files = sorted((folder / "data").glob(f"{split}-*.parquet"))
    if not files:
        others = sorted({f.name.split("-")[0] for f in (folder / "data").glob("*.parquet")})
        found = f"it has the splits {', '.join(others)}" if others else "no Parquet file lies in its data/"
        raise AnnotationsNotFoundError(f"{folder}: no annotations of split {split!r}; {found}")
    counts = {match.group(2) for f in files if (match := _SHARD.search(f.name))}
    if len(counts) != 1 or int(next(iter(counts))) != len(files):
        raise AnnotationError(
            f"{folder}: {len(files)} shards of split {split!r} lie there, their names say {sorted(counts)}"
        )
    return files


def _read_table(files: list[Path]) -> pa.Table:
    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file, columns=_COLUMNS).replace_schema_metadata(None))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise AnnotationError(f"{file}: not a readable shard of this dataset: {error}") from error
        if missing := set(_COLUMNS) - set(tables[-1].column_names):
            raise AnnotationError(f"{file}: columns {sorted(missing)} are missing")
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise AnnotationError(f"{files[0].parent}: shards differ in their columns: {error}") from error


def _check_file_names(folder: Path, names: list[str]) -> None:
    for row, name in enumerate(names):
        parts = name.split("/") if name else [""]
        if name.startswith("/") or "\\" in name or "\0" in name or ":" in parts[0] or {"", ".", ".."} & set(parts):
            raise AnnotationError(f"{folder}: row {row}, file_name {name!r}: not a plain path below the split folder")


def _to_record(raw: dict[str, Any]) -> Record:
    height, width = raw["height"], raw["width"]
    if height is not None and (height <= 0 or width is None or width <= 0):
        raise AnnotationError(f"height x width: {height} x {width}")
    return Record(
        image_id=raw["image_id"],
        file_name=raw["file_name"],
        label=None if raw["label"] is None else _class(raw["label"], "label"),
        size=None if height is None else (height, width),
        labels=_pairs(raw["labels"], raw["scores"], "labels"),
        regions=tuple(_to_region(region, f"regions[{k}]") for k, region in enumerate(raw["regions"] or ())),
        status=raw["status"],
    )


def _to_region(raw: dict[str, Any], field: str) -> RegionRecord:
    size = raw["mask"]["size"]
    if len(size) != 2:
        raise AnnotationError(f"{field}.mask.size: {size}, two numbers expected")
    return RegionRecord(
        mask=decode_mask((size[0], size[1]), raw["mask"]["counts"]),
        label=_class(raw["label"], f"{field}.label"),
        score=_score(raw["score"], f"{field}.score"),
        topk=_pairs(raw["topk_labels"], raw["topk_scores"], f"{field}.topk_labels"),
    )


def _pairs(labels: list[int] | None, scores: list[float] | None, field: str) -> tuple[tuple[int, float], ...]:
    labels, scores = labels or [], scores or []
    if len(labels) != len(scores):
        raise AnnotationError(f"{field}: {len(labels)} classes, but {len(scores)} scores")
    return tuple((_class(c, field), _score(s, field)) for c, s in zip(labels, scores, strict=True))


def _class(value: int, field: str) -> int:
    if not 0 <= value < NUM_CLASSES:
        raise AnnotationError(f"{field}: class {value} is outside 0 to {NUM_CLASSES - 1}")
    return value


def _score(value: float, field: str) -> float:
    if not 0.0 < value <= 1.0:  # false for NaN, too
        raise AnnotationError(f"{field}: score {value} is outside (0, 1]")
    return value
