"""What stages hand on to each other: one typed record per image, whose fields are the columns of a Parquet file."""

# ruff: noqa: RUF009 - `_column` is dataclasses.field
from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["LabelsRow", "RegionsRow", "read_rows", "schema_of", "table_of"]

Row = TypeVar("Row", "RegionsRow", "LabelsRow")


def _column(kind: pa.DataType, default: Any = None) -> Any:
    """Declare a column of an Arrow type; `default` is what the field holds where the column was not read."""
    if isinstance(default, list):
        return field(default_factory=list, metadata={"type": kind})
    return field(default=default, metadata={"type": kind})


@dataclass(kw_only=True, slots=True)
class RegionsRow:
    """One image of the regions stage, with R regions.

    Attributes:
        image_id: Stable key.
        file_name: Path below the split's folder.
        label: Original class, None without one.
        height: Pixels, None if the file could not be read.
        width: Pixels, None if the file could not be read.
        status: One of `mlimagenet_data.annotations.schema.STATUSES`.
        reason: Why the file could not be read.
        content: Hash of the file's bytes (`build.images.reader.content_digest`); None if they could not be read.
        grid: (gh, gw) of the masks.
        counts: R compressed COCO RLE codes.
        bbox: R boxes (x, y, width, height) as shares of the image's width and height.
        area: R shares of the image.
        alignment: R probabilities of the original label; None without one, or without a label map.
        map_classes: R classes that the label map finds likeliest in each region; None without a label map.
        map_scores: R probabilities of these classes.
        clicked: R times whether an annotator clicked the region; None without byproducts.
        of_original: R times whether the region was grown from the original label's own evidence; the object first.
        elsewhere: For each region, those of its likely classes whose evidence is elsewhere in the image.
        features: (R + 1, D) little-endian float16, the whole image last; (R + 1, S, D) for S patches of each, NaN for those that
            a region lacks.
        variants: (R, V, D) or (R, V, S, D) little-endian float16, features with patches dropped.
        classes: If the classifier classifies places first: the best classes of each region and, last, of the whole image.
        class_scores: Their probabilities.
        whole_classes: The best classes of the whole image, best first, and the original label; None without an original label
            or without what sees whole images: an ensemble or a classifier.
        whole_scores: Its probabilities for them.
        places: (K,) little-endian float16, the ensemble's probability of each class in its best place; None without an
            ensemble or with an original label.
    """

    image_id: str = _column(pa.string(), "")
    file_name: str = _column(pa.string(), "")
    label: int | None = _column(pa.int64())
    height: int | None = _column(pa.int32())
    width: int | None = _column(pa.int32())
    status: str = _column(pa.string(), "")
    reason: str | None = _column(pa.string())
    content: str | None = _column(pa.string())
    grid: list[int] | None = _column(pa.list_(pa.int32()))
    counts: list[str] = _column(pa.list_(pa.string()), [])
    bbox: list[list[float]] = _column(pa.list_(pa.list_(pa.float32())), [])
    area: list[float] = _column(pa.list_(pa.float32()), [])
    alignment: list[float | None] = _column(pa.list_(pa.float32()), [])
    map_classes: list[int | None] = _column(pa.list_(pa.int16()), [])
    map_scores: list[float | None] = _column(pa.list_(pa.float32()), [])
    clicked: list[bool | None] = _column(pa.list_(pa.bool_()), [])
    of_original: list[bool] = _column(pa.list_(pa.bool_()), [])
    elsewhere: list[list[int]] = _column(pa.list_(pa.list_(pa.int16())), [])
    features: bytes | None = _column(pa.binary())
    variants: bytes | None = _column(pa.binary())
    classes: list[list[int]] | None = _column(pa.list_(pa.list_(pa.int16())))
    class_scores: list[list[float]] | None = _column(pa.list_(pa.list_(pa.float32())))
    whole_classes: list[int] | None = _column(pa.list_(pa.int16()))
    whole_scores: list[float] | None = _column(pa.list_(pa.float32()))
    places: bytes | None = _column(pa.binary())


@dataclass(kw_only=True, slots=True)
class LabelsRow:
    """One image of the labels stage.

    Attributes:
        image_id: Stable key.
        labels: The image's classes, best first.
        scores: Their scores.
        found: Whether the original label is among the labels before any rule that keeps it; None without one.
        kept: Positions of the regions to publish.
        rejected: Number of regions that show nothing with a name.
        topk_labels: The best classes of each region, best first.
        topk_scores: Their scores.
    """

    image_id: str = _column(pa.string(), "")
    labels: list[int] = _column(pa.list_(pa.int64()), [])
    scores: list[float] = _column(pa.list_(pa.float32()), [])
    found: bool | None = _column(pa.bool_())
    kept: list[int] = _column(pa.list_(pa.int32()), [])
    rejected: int = _column(pa.int32(), 0)
    topk_labels: list[list[int]] = _column(pa.list_(pa.list_(pa.int64())), [])
    topk_scores: list[list[float]] = _column(pa.list_(pa.list_(pa.float32())), [])


def schema_of(kind: type[Row]) -> pa.Schema:
    """Return the Arrow schema of a record."""
    return pa.schema([(declared.name, declared.metadata["type"]) for declared in fields(kind)])


def table_of(rows: Iterable[Row], kind: type[Row]) -> pa.Table:
    """Return records as a table."""
    items, schema = list(rows), schema_of(kind)
    return pa.table([pa.array([getattr(row, f.name) for row in items], f.type) for f in schema], schema=schema)


def read_rows(path: Path, kind: type[Row], *columns: str) -> list[Row]:
    """Return the records in a file.

    Args:
        path: As `table_of` made it.
        kind: The record.
        columns: Read only these; other fields keep their defaults. None given: read all.

    Raises:
        ValueError: If the record has no such field.
    """
    if unknown := set(columns) - {declared.name for declared in dataclasses.fields(kind)}:
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)[0]!r}")
    names = list(columns) or schema_of(kind).names
    values = [column.to_pylist() for column in pq.read_table(path, columns=names).select(names).columns]
    return [kind(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]
