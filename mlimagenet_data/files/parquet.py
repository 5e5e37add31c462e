"""Reading of Parquet files that may be damaged or come from strangers. Only this module opens the dataset's shards.

Damage: the checksum of each page is verified where a file has them (ours do), so a flipped bit is an error.

Memory: 100 kB of Parquet can describe gigabytes: a page that is said to decompress to 2 GB, run-length codes of 10^9
values, or indices into a dictionary of one huge text. Arrow believes the header of each page, whatever the footer says.
So these headers are read first, and a file that would take far more memory than its bytes justify is refused. Texts are
read as dictionaries, and expanded in parts whose size is known.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.pages import PageError, read_pages
from mlimagenet_data.files.reading import open_regular

__all__ = ["open_parquet", "read_batches", "read_columns"]

_FREE_BYTES = 1 << 27  # what a file may always take in memory,
_MOST_GROWTH = 256  # and this many times its size; annotations of photographs take about 10 times theirs
_VALUE_BYTES = 16  # of a value with its levels, at most
_GROUP_BYTES = 1 << 28  # of one read, if the rows of its group are alike
_BATCH_BYTES = 1 << 25  # of a batch, unless a single row has more
_DELTA_BYTE_ARRAY = 7  # values share prefixes, so that their size is known only after decoding


def open_parquet(path: Path, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file. The checksums of its pages are verified when they are read.

    Args:
        path: The file.
        options: Of `pyarrow.parquet.ParquetFile`.

    Raises:
        AnnotationError: If it is not a regular file, or its footer is damaged.
    """
    with _named_errors(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise AnnotationError(f"{path}: not a regular file")
        return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, **options)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return top-level columns of a Parquet file; see `read_batches`."""
    batches = [batch for _, batch in read_batches(path, columns)]
    if not batches:
        return open_parquet(path).schema_arrow.empty_table().select(list(columns))
    return pa.Table.from_batches(batches).select(list(columns))


def read_batches(path: Path, columns: Sequence[str], rows: int = 20_000) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield a Parquet file's rows in batches, each with the number of its first row; no batch is empty.

    Args:
        path: The file.
        columns: Names of columns, or paths of nested ones such as `regions.list.element.area`.
        rows: Rows per batch, at most. Batches of large rows have fewer.

    Raises:
        AnnotationError: If the file cannot be read, a column is missing, a page's checksum is wrong, or the file would
            take far more memory than its size allows.
    """
    with _named_errors(path):
        metadata = open_parquet(path).metadata
        if missing := {name.partition(".")[0] for name in columns} - set(_top_names(metadata)):
            raise AnnotationError(f"{path}: columns {sorted(missing)} are missing")
        first = 0
        for batch in _joined(_parts(path, metadata, columns, rows), rows):
            yield first, batch
            first += batch.num_rows
        if first != metadata.num_rows:  # Arrow skips a page of a kind that it does not know
            raise PageError(f"a damaged page: {first} of {metadata.num_rows} rows can be read")


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn the errors of damaged files into one that names the file."""
    try:
        yield
    except AnnotationError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise AnnotationError(f"{path}: not a readable shard of this dataset: {error}") from error


def _top_names(metadata: Any) -> list[str]:
    return list(metadata.schema.to_arrow_schema().names)


def _parts(path: Path, metadata: Any, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most `_BATCH_BYTES`; a batch never spans two row groups, whose dictionaries differ."""
    wanted = tuple(f"{name}." for name in columns)
    found = enumerate(map(metadata.schema.column, range(metadata.num_columns)))
    chosen = {place: leaf for place, leaf in found if f"{leaf.path}.".startswith(wanted)}
    if odd := [leaf.path for leaf in chosen.values() if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY"]:
        raise PageError(f"column {odd[0]} has values of fixed length, which no column of this dataset has")
    texts = [leaf.path for leaf in chosen.values() if leaf.physical_type == "BYTE_ARRAY"]
    parquet = open_parquet(path, metadata=metadata, read_dictionary=texts)
    budget = _FREE_BYTES
    with open_regular(path) as file:
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            size, taken = _declared(file, group, list(chosen))
            budget += _MOST_GROWTH * size - taken
            if budget < 0:
                raise PageError(f"row group {number}: {size} bytes that take {taken} bytes of memory are not read")
            most = max(1, min(rows, group.num_rows * _GROUP_BYTES // max(taken, 1)))
            for batch in parquet.iter_batches(most, row_groups=[number], columns=list(columns)):
                yield from _expanded(batch)


def _declared(file: BinaryIO, group: Any, leaves: list[int]) -> tuple[int, int]:
    """Return a row group's bytes in the file, and the bytes of memory that its pages declare, without long texts."""
    size = taken = 0
    for column in map(group.column, leaves):
        begins = [column.data_page_offset, column.dictionary_page_offset]
        begin = min(offset for offset in begins if offset is not None and offset > 0)
        size += column.total_compressed_size
        for page in read_pages(file, begin, begin + column.total_compressed_size):
            if page.encoding == _DELTA_BYTE_ARRAY:
                raise PageError(f"column {column.path_in_schema} is encoded as DELTA_BYTE_ARRAY; write it as PLAIN")
            taken += page.uncompressed + _VALUE_BYTES * page.values
    return size, taken


def _expanded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch with its dictionaries expanded, in halves of halves if it would be too large."""
    size = sum(map(_expanded_bytes, batch.columns))
    if size <= _BATCH_BYTES or (batch.num_rows == 1 and size <= _FREE_BYTES):
        yield pa.RecordBatch.from_arrays(
            [column.cast(_plain(column.type)) for column in batch.columns], batch.schema.names
        )
    elif batch.num_rows == 1:
        raise PageError(f"one row takes {size} bytes of memory; it must take at most {_FREE_BYTES}")
    else:
        half = batch.num_rows // 2
        yield from _expanded(batch.slice(0, half))
        yield from _expanded(batch.slice(half))


def _expanded_bytes(array: pa.Array) -> int:
    """Return about how many bytes an array takes with its dictionaries expanded."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return 4 * len(array) + int(pc.sum(lengths).as_py() or 0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 4 * len(array) + _expanded_bytes(array.flatten())
    if pa.types.is_struct(kind):
        return sum(map(_expanded_bytes, array.flatten()))
    if pa.types.is_nested(kind):
        raise PageError(f"a column has the type {kind}, which no column of this dataset has")
    return int(array.nbytes)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return a type with the dictionaries in it replaced by the type of their values."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def _joined(parts: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Join neighbouring parts into batches of at most `rows` rows and `_BATCH_BYTES`."""
    pending: list[pa.RecordBatch] = []
    count = size = 0
    for part in parts:
        if pending and (count + part.num_rows > rows or size + part.nbytes > _BATCH_BYTES):
            yield _one(pending)
            pending, count, size = [], 0, 0
        pending.append(part)
        count, size = count + part.num_rows, size + part.nbytes
    if pending:
        yield _one(pending)


def _one(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(parts) == 1:
        return parts[0]
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
