"""The paths and labels of a Parquet file that may come from a stranger, in file order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from build.config.options import ConfigError
from build.images.listing import PART_ROWS
from mlimagenet_data.files.printing import printable
from mlimagenet_data.files.reading import open_regular

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["BYTES", "ParquetRows", "check_sizes", "parquet_structure", "repeated_columns"]

BYTES, PATHS = "image.bytes", "image.path"
_MOST_PATH = 10_000  # bytes
_MOST_PATHS = 1 << 28  # bytes of all paths of a file
_ERRORS = (pa.ArrowException, OSError, ValueError)


class ParquetRows:
    """Reads the columns `image.path` and `label` of a Parquet file once.

    Args:
        file: The file.
        structure: Takes in the file's size, its footer, and the paths and labels.

    Attributes:
        metadata: The footer.
        schema: The columns and their types.
        label: The type of the column `label`; null without one.

    Raises:
        ConfigError: On entering or iterating, if the file is no Parquet file, lacks the column `image`, or declares
            more than it can hold.
    """

    def __init__(self, file: Path, structure: _Hash) -> None:
        self._file, self._structure = file, structure
        self._opened: pq.ParquetFile | None = None

    def __enter__(self) -> ParquetRows:
        try:
            size = _hash_footer(self._file, self._structure)
            with pq.ParquetFile(self._file) as opened:
                self.metadata, self.schema = opened.metadata, opened.schema_arrow
            self.label = self._check(size)
            self._opened = pq.ParquetFile(self._file, read_dictionary=repeated_columns(self.metadata, PATHS))
        except ConfigError:
            raise
        except _ERRORS as error:
            raise self._error(f"unreadable as Parquet: {printable(str(error).strip())}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._opened is not None:
            self._opened.close()

    def __iter__(self) -> Iterator[tuple[str | bytes | None, int | None]]:
        """Yield each row's path, as bytes where it is not UTF-8, and its label, None unless it is an integer."""
        labelled, length, count = pa.types.is_integer(self.label), 0, 0
        try:
            for batch in self._batches([PATHS, "label"] if labelled else [PATHS]):
                paths, used = _paths(pc.struct_field(batch["image"], "path"))
                length += used
                if length > _MOST_PATHS:
                    raise self._error(f"its paths have more than {_MOST_PATHS} bytes; split the file")
                labels = batch["label"].to_pylist() if labelled else [None] * len(paths)
                self._structure.update(repr((paths, labels)).encode("utf-8", "surrogatepass"))
                yield from zip(paths, labels, strict=True)
                count += len(paths)
            if count != self.metadata.num_rows:  # Arrow skips a page of a kind that it does not know
                raise self._error(f"a damaged page: {count} of {self.metadata.num_rows} rows can be read")
        except ConfigError:
            raise
        except _ERRORS as error:
            raise self._error(f"unreadable as Parquet: {printable(str(error).strip())}") from error

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        assert self._opened is not None
        for group in range(self._opened.num_row_groups):  # Arrow cannot join dictionaries in a struct
            yield from self._opened.iter_batches(PART_ROWS, row_groups=[group], columns=columns)

    def _check(self, size: int) -> pa.DataType:
        """Check the columns and their declared sizes, and return the type of the labels."""
        names = self.schema.names
        types = {name: self.schema.field(name).type for name in names if names.count(name) == 1}
        if not _is_image(types.get("image")):
            raise self._error("needs a column `image` with the fields bytes and path, as `datasets` writes it")
        if names.count("label") > 1:
            raise self._error("has several columns `label`; must have one")
        if self.metadata.num_rows > size:
            raise self._error(f"declares {self.metadata.num_rows} rows in {size} bytes; an image needs more than one")
        for k in range(self.metadata.num_row_groups):
            check_sizes(self.metadata.row_group(k), PATHS, _MOST_PATHS)
        return types.get("label", pa.null())

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(f"images: {self._file}: {reason}")


def parquet_structure(file: Path) -> str:
    """Return the hash of a Parquet file's size, footer, paths and labels.

    Raises:
        ConfigError: As `ParquetRows`.
    """
    structure = hashlib.sha256()
    with ParquetRows(file, structure) as rows:
        for _ in rows:
            pass
    return structure.hexdigest()


def check_sizes(group: pq.RowGroupMetaData, column: str, most_bytes: int) -> None:
    """Check what a row group declares of a column, before memory is taken.

    A value that is repeated counts once: see `repeated_columns`.

    Args:
        group: The row group.
        column: The path of the column in the schema.
        most_bytes: Legal size, whatever the compression; a larger one may be at most four times the compressed size.

    Raises:
        ValueError: If the column is larger, or has an encoding in which few bytes can stand for any number.
    """
    for k in range(group.num_columns):
        chunk = group.column(k)
        if chunk.path_in_schema != column:
            continue
        size = chunk.total_uncompressed_size
        if not 0 <= size <= max(most_bytes, 4 * chunk.total_compressed_size):
            raise ValueError(f"{column}: declares {size} bytes for {chunk.total_compressed_size} compressed ones")
        if "DELTA_BYTE_ARRAY" in chunk.encodings:
            raise ValueError(f"{column}: the encoding DELTA_BYTE_ARRAY is not supported; write the file without it")


def repeated_columns(metadata: pq.FileMetaData, column: str) -> list[str]:
    """Return the column if it may repeat values, to be read as a dictionary: that holds a repeated value once."""
    groups = (metadata.row_group(k) for k in range(metadata.num_row_groups))
    chunks = (group.column(k) for group in groups for k in range(group.num_columns))
    encodings = {name for chunk in chunks if chunk.path_in_schema == column for name in chunk.encodings}
    return [column] if any("DICTIONARY" in name for name in encodings) else []


def _hash_footer(file: Path, structure: _Hash) -> int:
    """Hash a file's size and footer, and return the size."""
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        structure.update(f"{size}:".encode())
        opened.seek(max(0, size - 8))
        end = opened.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != b"PAR1" or length > size - 8:
            raise ValueError("it has no Parquet footer")
        opened.seek(size - 8 - length)
        while part := opened.read(1 << 20):
            structure.update(part)
    return size


def _is_image(kind: pa.DataType | None) -> bool:
    fields = {field.name: field.type for field in kind} if kind is not None and pa.types.is_struct(kind) else {}
    path, content = fields.get("path"), fields.get("bytes")
    return path in (pa.string(), pa.large_string(), pa.null()) and content in (
        pa.binary(),
        pa.large_binary(),
        pa.null(),
    )


def _paths(column: pa.Array) -> tuple[list[str | bytes | None], int]:
    """Return the paths of a column, as bytes where they are not UTF-8, and their length in all, in bytes."""
    if pa.types.is_null(column.type):
        return [None] * len(column), 0
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    distinct = column.dictionary.cast(pa.large_binary())
    lengths = pc.binary_length(distinct)
    if (pc.max(lengths).as_py() or 0) > _MOST_PATH:
        raise ValueError(f"{PATHS}: must have at most {_MOST_PATH} bytes, found {pc.max(lengths).as_py()}")
    texts = [_text(content) for content in distinct.to_pylist()]
    used = pc.sum(lengths.take(column.indices)).as_py() or 0
    return [None if place is None else texts[place] for place in column.indices.to_pylist()], used


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
