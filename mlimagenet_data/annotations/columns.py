"""Columns of a dataset as read-only sequences: one item takes constant time, and comparing with a list works."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Column"]

T = TypeVar("T")


class Column(Sequence[T]):
    """A sequence whose items are looked up when they are asked for.

    Args:
        length: Number of items.
        item: Returns the item at a position from 0 to `length` - 1.
        everything: Returns all items at once, if that is faster than one by one.
    """

    def __init__(self, length: int, item: Callable[[int], T], everything: Callable[[], list[T]] | None = None) -> None:
        self._places, self._item, self._everything = range(length), item, everything

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._item(place) for place in self._places[index]]
        return self._item(self._places[index])

    def __iter__(self) -> Iterator[T]:
        return iter(self._everything()) if self._everything is not None else map(self._item, self._places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | tuple | Column):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Sequence[T]) -> list[T]:
        return [*self, *other]

    def __radd__(self, other: Sequence[T]) -> list[T]:
        return [*other, *self]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(list(self), dtype)

    def __repr__(self) -> str:
        return reprlib.repr(list(itertools.islice(self, 7)))
