"""Write imported rows as a dataset folder, with the Parquet shards, card and manifest of a build."""

from __future__ import annotations

import functools
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlimagenet_data.annotations.card import card_text
from mlimagenet_data.annotations.schema import (
    FILE_ROWS,
    GROUP_ROWS,
    SCHEMA_VERSION,
    STATUSES,
    arrow_schema,
    parquet_writer,
    shard_name,
)
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.atomic import write_atomic, write_json
from mlimagenet_data.files.reading import file_hash, read_manifest

__all__ = ["DatasetWriter", "complete_columns", "tables_of"]


def tables_of(rows: Iterable[dict[str, Any]]) -> Iterator[pa.Table]:
    """Yield rows of the schema as tables of at most `GROUP_ROWS` rows."""
    schema = arrow_schema()
    pending: list[dict[str, Any]] = []
    for row in rows:
        pending.append(row)
        if len(pending) == GROUP_ROWS:
            yield pa.Table.from_pylist(pending, schema=schema)
            pending = []
    if pending:
        yield pa.Table.from_pylist(pending, schema=schema)


class DatasetWriter:
    """Context manager that writes one split into a dataset folder. No shard appears there until all rows are written.

    Args:
        out: The dataset folder. It may hold other imported splits, but not a build.
        split: Name of the split.

    Raises:
        AnnotationError: If the name is invalid, the split already exists, or the folder holds a build.
    """

    def __init__(self, out: Path, split: str) -> None:
        if not split.isidentifier() or not split.isascii():
            raise AnnotationError(f"--split {split}: invalid name; it must consist of letters, digits and underscores")
        self._manifest = read_manifest(out)
        built = [name for name, other in self._manifest.get("splits", {}).items() if "imported" not in other]
        if built or list((out / "data").glob(f"{split}-*.parquet")):
            what = "a build" if built else f"a split {split!r}"
            raise AnnotationError(f"{out}: already holds {what}; choose another --out or move it away")
        self.out, self.split = out, split
        self._schema = arrow_schema()
        self._folder = out / f".import-{os.getpid()}"
        self._rows: list[int] = []  # per file
        self._writer: Any = None
        self._counts: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()

    def __enter__(self) -> DatasetWriter:
        self._folder.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, table: pa.Table) -> None:
        """Write rows; `complete_columns` fills in missing sizes, regions and statuses."""
        table = complete_columns(table, self._schema)
        self._count(table)
        while table.num_rows:
            if self._writer is None or self._rows[-1] == FILE_ROWS:
                self._open()
            part = table.slice(0, FILE_ROWS - self._rows[-1])
            self._writer.write_table(part, row_group_size=GROUP_ROWS)
            self._rows[-1] += part.num_rows
            table = table.slice(part.num_rows)

    def finish(self, imported: dict[str, Any], *, licence: str, creators: str, note: str) -> dict[str, Any]:
        """Move the files into the folder, write the card and manifest, and return the split's manifest entry.

        Args:
            imported: Source of the rows, for the manifest.
            licence: The Hub's identifier of the annotations' licence.
            creators: The Hub's identifier of the annotations' creators.
            note: Description of the split for the card, in Markdown.
        """
        if self._writer is None:
            self._open()
        self._writer.close()
        self._writer, files = None, {}
        for number, rows in enumerate(self._rows):
            name = shard_name(self.split, number, len(self._rows))
            path = self.out / "data" / name
            write_atomic(path, functools.partial(os.replace, self._folder / f"{number}.parquet"))
            files[name] = {"sha256": file_hash(path), "bytes": path.stat().st_size, "rows": rows}
        split = {
            "imported": imported, "rows": sum(self._rows), "statuses": dict(self._statuses), "note": note,
            "licence": licence, "creators": creators, "files": files, **self._counts,
        }  # fmt: skip
        splits = {**self._manifest.get("splits", {}), self.split: split}
        write_atomic(self.out / "README.md", lambda path: path.write_text(_card(splits), encoding="utf-8"))
        write_json(self.out / "build_manifest.json", {"schema_version": SCHEMA_VERSION, "splits": splits})
        return split

    def _open(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = parquet_writer(self._folder / f"{len(self._rows)}.parquet", self._schema)
        self._rows.append(0)

    def _count(self, table: pa.Table) -> None:
        for name in ("labels", "regions"):
            self._counts[name] += pc.sum(pc.list_value_length(table[name])).as_py() or 0
        self._counts["with_original_label"] += table.num_rows - table["label"].null_count
        for item in pc.value_counts(table["status"]).to_pylist():
            self._statuses[item["values"]] += item["counts"]


def complete_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with all columns of the schema.

    Missing sizes become null and missing regions empty; missing statuses follow from the regions.
    """
    count = table.num_rows
    columns = {name: table[name] for name in table.column_names}
    for name in ("height", "width"):
        columns.setdefault(name, pa.nulls(count, pa.int32()))
    if "regions" not in columns:
        offsets = pa.array(np.zeros(count + 1, np.int32))
        kind = schema.field("regions").type
        columns["regions"] = pa.ListArray.from_arrays(offsets, pa.array([], kind.value_type), type=kind)
    if "status" not in columns:
        found = pc.greater(pc.list_value_length(columns["regions"]), 0)
        columns["status"] = pc.if_else(found, "ok", "no_regions")
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)


def _card(splits: dict[str, Any]) -> str:
    notes = [f"- `{name}`, {split['rows']} images: {split['note']}" for name, split in sorted(splits.items())]
    statuses = [f"- `{name}`: {meaning}." for name, meaning in STATUSES.items()]
    body = _BODY.format(notes="\n".join(notes), statuses="\n".join(statuses))
    licences = {split["licence"] for split in splits.values()}
    return card_text(
        body, splits, imagenet_classes(), licence=licences.pop() if len(licences) == 1 else "other",
        creators=sorted({split["creators"] for split in splits.values()}),
    )  # fmt: skip


_BODY = """\
# Multi-label ImageNet, imported annotations

{notes}

The dataset holds no pixels; join its rows with your own copy of the images by `image_id` or `file_name`.

```python
from mlimagenet_data import MultiLabelImageNet

train = MultiLabelImageNet("path/to/imagenet", transform, annotations="path/to/this/folder")
```

`label` is the original class. `labels` and `scores` are the image's classes and their scores, best first. Each of the
`regions` has a mask, a class and a score. A mask is COCO RLE on its own grid; stretch it to the image by nearest
neighbour. `height` and `width` are null if the import did not know them. `build_manifest.json` lists the source files
and the entries left out.

Statuses:

{statuses}
"""
