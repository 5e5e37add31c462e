"""Write imported rows as a dataset folder, with the Parquet shards, card and manifest of a build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlimagenet_data.annotations.card import card_text, companion_files
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
from mlimagenet_data.files.outputs import OutputFolder
from mlimagenet_data.files.reading import file_hash, read_manifest

__all__ = ["DatasetWriter", "complete_columns", "tables_of"]

_CARD, _MANIFEST = "README.md", "build_manifest.json"
# of an import's split in the manifest: what the card needs
_FIELDS = {"imported": dict, "rows": int, "note": str, "licence": str, "creators": str, "files": dict}


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

    A split exists once the manifest names it. What a killed import left is replaced.

    Args:
        out: The dataset folder. It may hold other imported splits.
        split: Name of the split.
        inputs: Files and folders that the rows come from.

    Raises:
        AnnotationError: If the name is invalid, the split already exists, or the manifest is not an import's.
        OutputError: If the folder overlaps an input, holds files that are not ours, or holds a build; or if another
            process is importing this split into it.
    """

    def __init__(self, out: Path, split: str, inputs: Iterable[Path] = ()) -> None:
        if not split.isidentifier() or not split.isascii():
            raise AnnotationError(f"--split {split}: invalid name; it must consist of letters, digits and underscores")
        self.split = split
        self._out = OutputFolder.open(out, "import", inputs=inputs)
        self._check()
        self._schema = arrow_schema()
        self._rows: list[int] = []  # per file
        self._writer: Any = None
        self._counts: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._run = self._out.sole_run(f"import-{split}")

    def __enter__(self) -> DatasetWriter:
        self._folder = self._run.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._run.__exit__(None, None, None)

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
        self._writer, files, sources = None, {}, {}
        for number, rows in enumerate(self._rows):
            path = self._folder / f"{number}.parquet"
            name = shard_name(self.split, number, len(self._rows))
            sources[f"data/{name}"] = path
            files[name] = {"sha256": file_hash(path), "bytes": path.stat().st_size, "rows": rows}
        split = {
            "imported": imported, "rows": sum(self._rows), "statuses": dict(self._statuses), "note": note,
            "licence": licence, "creators": creators, "files": files, **self._counts,
        }  # fmt: skip
        with self._out.locked():  # other splits may be imported at the same time
            splits = {**self._check(), self.split: split}
            remains = [name for name in self._out.names() if name.startswith(f"data/{self.split}-")]
            self._out.install(sources, replaces=remains)
            self._out.write(_CARD, lambda path: path.write_text(_card(splits), encoding="utf-8"))
            beside = companion_files(self._out.path, [_CARD])
            self._out.write_json(_MANIFEST, {"schema_version": SCHEMA_VERSION, "splits": splits, "files": beside})
        return split

    def _check(self) -> dict[str, Any]:
        """Check that the split can be written; return the manifest's other splits."""
        folder = self._out.path
        splits: dict[str, Any] = read_manifest(folder).get("splits", {})
        for name, split in splits.items():
            if not _is_import(split):
                raise AnnotationError(f"{folder}: holds split {name!r}, which is not an import; choose another --out")
        if self.split in splits:
            raise AnnotationError(
                f"{folder}: already holds split {self.split!r}; choose another --out, or delete this folder first"
            )
        shards = (path.relative_to(folder).as_posix() for path in folder.glob(f"data/{self.split}-*.parquet"))
        self._out.check(_CARD, _MANIFEST, *sorted(shards))
        return splits

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


def _is_import(split: dict[str, Any]) -> bool:
    if not all(isinstance(split.get(field), kind) for field, kind in _FIELDS.items()):
        return False
    return all(isinstance(file, dict) and isinstance(file.get("bytes"), int) for file in split["files"].values())


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
