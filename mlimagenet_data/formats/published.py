"""Read the paper's annotations as published on the Hub (`k3999/multilabel-imagenet-1k`): Parquet without masks.

The columns are `filename`, `gt_index`, `label_indices` and `label_probs`, and mean what the columns of the paper's
`multilabel_annotations.tsv` mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlimagenet_data.annotations.shards import HUB_PREFIX, hub_snapshot
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.tsv import named, ranked, unique

__all__ = ["published_files", "read_published"]

_COLUMNS = ("filename", "gt_index", "label_indices", "label_probs")
_BATCH_ROWS = 20_000


def published_files(source: str, split: str) -> list[Path]:
    """Return the Parquet files of a split.

    Args:
        source: A file, a folder, or `hf:USER/NAME[@REVISION]`.
        split: Files whose names begin with it are taken; all, if none does.

    Raises:
        AnnotationsNotFoundError: If there are none.
    """
    is_on_hub = source.startswith(HUB_PREFIX)
    path = hub_snapshot(source, ["*.parquet", "**/*.parquet"]) if is_on_hub else Path(source)
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    files = [file for file in files if file.name.startswith(split)] or files
    if not files:
        raise AnnotationsNotFoundError(
            f"{source}: {'holds no .parquet files' if path.exists() else 'no such file or folder'}"
        )
    return files


def read_published(
    files: list[Path], faults: Faults, advance: Callable[[int], object] = lambda count: None
) -> Iterator[pa.Table]:
    """Yield tables as `mlimagenet_data.formats.tsv.read_tsv` does, in file order.

    Args:
        files: The Parquet files.
        faults: Collects rows with an invalid name, class or score, and rows that repeat a photograph.
        advance: Called with the number of rows of each batch.

    Raises:
        AnnotationError: If a file is not of this form, or a row is invalid and `faults` does not skip it; the message
            names file, row, field and value.
    """
    seen: dict[str, str] = {}
    for file in files:
        first = 0
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as opened:
                if missing := [name for name in _COLUMNS if name not in opened.schema_arrow.names]:
                    raise AnnotationError(f"{file}: column {missing[0]!r} is missing; it needs {', '.join(_COLUMNS)}")
                for batch in opened.iter_batches(_BATCH_ROWS, columns=list(_COLUMNS)):
                    yield unique(_rows(batch, first, str(file), faults), seen, str(file), faults)
                    first += batch.num_rows
                    advance(batch.num_rows)
                if first != opened.metadata.num_rows:  # Arrow skips a page of a kind that it does not know
                    raise AnnotationError(
                        f"{file}: a damaged page: {first} of {opened.metadata.num_rows} rows can be read"
                    )
        except (pa.ArrowException, OSError) as error:
            raise AnnotationError(f"{file}: not a readable Parquet file of this form: {error}") from error


def _rows(batch: pa.RecordBatch, first: int, file: str, faults: Faults) -> pa.Table:
    table = pa.table({
        "line": np.arange(first, first + batch.num_rows),
        "filename": pc.cast(batch["filename"], pa.string()),
        "label": pc.cast(batch["gt_index"], pa.int64()),
        "classes": pc.cast(batch["label_indices"], pa.list_(pa.int64())),
        "scores": pc.cast(batch["label_probs"], pa.list_(pa.float64())),
    })  # fmt: skip
    label = np.asarray(pc.fill_null(table["label"], -1).to_numpy())
    rule = f"must be a class from 0 to {NUM_CLASSES - 1}"
    table = faults.keep(table, (label >= 0) & (label < NUM_CLASSES), file, "label", rule)
    table = named(table, file, faults)
    lengths, others = _lengths(table["classes"]), _lengths(table["scores"])
    table = faults.keep(table, lengths == others, file, "classes", "and scores must have the same length")
    table = faults.keep(table, _full(table["classes"]) & _full(table["scores"]), file, "classes", "must hold no nulls")
    values, numbers = (pc.list_flatten(table[name]).to_numpy() for name in ("classes", "scores"))
    return ranked(table, _lengths(table["classes"]), values, numbers, file, faults)


def _lengths(lists: Any) -> Any:
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)


def _full(lists: Any) -> Any:
    """Return whether each list holds no null."""
    holds = np.asarray(pc.is_null(pc.list_flatten(lists), nan_is_null=True).to_numpy())
    rows = np.repeat(np.arange(len(lists)), _lengths(lists))
    return np.bincount(rows, holds, len(lists)) == 0
