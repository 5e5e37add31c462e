"""Headers of the pages in a Parquet file, read without decompressing anything.

A page header is a struct in Thrift's compact protocol; github.com/apache/parquet-format (`parquet.thrift`) numbers its
fields. A field that occurs twice is refused, because readers differ in which one they believe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Page", "PageError", "read_pages"]

_HEADER_BYTES = (512, 1 << 20)  # first try, and the most that statistics with long texts take
_MOST_DEPTH = 8
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8  # fields of the header, one for each kind of page
_ENCODING = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}


class PageError(ValueError):
    """A page header that is damaged, or that no writer makes."""


class Page(NamedTuple):
    """What a page header declares: sizes in bytes, number of values, and the encoding's number in the format."""

    uncompressed: int
    values: int
    encoding: int


def read_pages(file: BinaryIO, begin: int, end: int) -> Iterator[Page]:
    """Yield the pages of a column chunk, which lies between two offsets of a file.

    Raises:
        PageError: If a header is damaged, or a page does not end within the chunk.
    """
    while begin < end:
        header, length = _header(file, begin, end - begin)
        size = _count(header, 3)
        kinds = [kind for kind in _ENCODING if isinstance(header.get(kind), dict)]
        begin += length + size
        if begin > end:
            raise PageError(f"a page ends {begin - end} bytes after its column chunk")
        if kinds:  # other pages hold no values
            kind = header[kinds[0]]
            yield Page(_count(header, 2), _count(kind, 1), _count(kind, _ENCODING[kinds[0]]))


def _header(file: BinaryIO, begin: int, most: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a page header and its length."""
    for size in _HEADER_BYTES:
        file.seek(begin)
        raw = file.read(min(size, most))
        try:
            return _struct(raw, 0, 0)
        except IndexError:
            continue
    raise PageError("a page header is damaged: it does not end")


def _count(fields: dict[int, Any], number: int) -> int:
    value = fields.get(number)
    if type(value) is not int or value < 0:
        raise PageError(f"a page header is damaged: its field {number} is {value!r}; it must be a count")
    return value


def _struct(raw: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return a struct's fields and the offset after it; raise IndexError if the bytes end before it does."""
    if depth > _MOST_DEPTH:
        raise PageError("a page header is damaged: it nests too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while (head := raw[at]) != 0:
        at += 1
        number += head >> 4
        if head < 16:
            number, at = _integer(raw, at)
        if number in fields:
            raise PageError(f"a page header is damaged: it holds field {number} twice")
        fields[number], at = _value(raw, at, head & 15, depth)
    return fields, at + 1


def _value(raw: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind in (_I16, _I32, _I64):
        return _integer(raw, at)
    if kind == _STRUCT:
        return _struct(raw, at, depth + 1)
    if kind == _BINARY:
        length, at = _varint(raw, at)
        return None, _within(raw, at + length)
    if kind in (_BYTE, _DOUBLE):
        return None, _within(raw, at + (1 if kind == _BYTE else 8))
    raise PageError(f"a page header is damaged: it holds a value of type {kind}")


def _within(raw: bytes, at: int) -> int:
    if at > len(raw):
        raise IndexError
    return at


def _integer(raw: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(raw, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (raw[at] & 127) << shift
        at += 1
        if raw[at - 1] < 128:
            return value, at
    raise PageError("a page header is damaged: a number has too many digits")
