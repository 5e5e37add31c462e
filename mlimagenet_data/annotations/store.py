"""Open annotations from a folder, the Hub or Parquet files, and serve their rows to the loader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.index import Index, open_index
from mlimagenet_data.annotations.packing import STATUS_NAMES
from mlimagenet_data.annotations.records import Record, decode_names, decode_record
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.shards import Source, annotation_files, checked_source
from mlimagenet_data.annotations.validate import id_hash
from mlimagenet_data.names import join_key

__all__ = ["AnnotationStore"]

_IS_USABLE = np.array([name in USABLE_STATUSES for name in STATUS_NAMES])


class AnnotationStore:
    """Annotations of one split, by row and by image_id.

    The first use builds an index in the user's cache folder (`mlimagenet_data.annotations.index.cache_folder`). It is
    memory-mapped, so all processes on a machine share it. Pickling a store saves its source, not its content.

    Args:
        source: A dataset folder written by `python -m build.run`, a dataset on the Hub (`hf:USER/NAME` or
            `hf:USER/NAME@REVISION`), or a list of Parquet files.
        split: Name of the split. It does not select from a list of files.
        advance: Called with the number of rows indexed since the last call.

    Raises:
        AnnotationsNotFoundError: If the folder, the split or a file does not exist.
        AnnotationError: If a shard is missing, cannot be read, breaks the schema, or differs from the manifest.
        OutputError: If the index cannot be written.
        TypeError: If the source is of another kind.
    """

    def __init__(self, source: Source, split: str, *, advance: Callable[[int], object] = lambda count: None) -> None:
        self.source = checked_source(source)
        self.split = split
        self._index: Index = open_index(annotation_files(self.source, split), advance=advance)
        self._rows = len(self._index)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.split)

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return f"AnnotationStore({str(self.source)!r}, split={self.split!r}, rows={len(self)})"

    def usable_rows(self) -> NDArray[np.int64]:
        """Return the rows whose image was readable when annotated: (N,), sorted."""
        return np.flatnonzero(_IS_USABLE[self._index.status])

    def original_labels(self) -> NDArray[np.int16]:
        """Return the original class of each row, -1 for none: (N,), read-only."""
        return self._index.original

    def file_name(self, row: int) -> str:
        """Return a row's path below the split folder."""
        return decode_names(self._index.read(row))[1]

    def image_id(self, row: int) -> str:
        """Return a row's image_id."""
        return decode_names(self._index.read(row))[0]

    def find(self, image_id: str) -> int:
        """Return the row of an image, by its image_id in any form with the same `mlimagenet_data.names.join_key`.

        Raises:
            KeyError: If no row matches, or if several rows share the key and none has exactly this id.
        """
        key = np.uint64(id_hash(join_key(image_id)))
        hashes, rows = self._index.keys
        first, last = (int(np.searchsorted(hashes, key, side)) for side in ("left", "right"))
        found: dict[str, int] = {self.image_id(row): row for row in rows[first:last].tolist()}
        if image_id in found:
            return found[image_id]
        same = [row for other, row in found.items() if join_key(other) == join_key(image_id)]
        if len(same) != 1:
            raise KeyError(image_id)
        return same[0]

    def record(self, row: int) -> Record:
        """Return one row.

        Raises:
            IndexError: If the row does not exist; negative rows count from the end.
        """
        return decode_record(self._index.read(row if 0 <= row < self._rows else range(self._rows)[row]))
