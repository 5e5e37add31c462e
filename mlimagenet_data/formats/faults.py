"""Faults of an input file: stop at the first one, or count all and skip their entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlimagenet_data.errors import AnnotationError

__all__ = ["Faults", "shortened"]

_MOST_SHOWN = 100
_MOST_CHARACTERS = 80


class Faults:
    """Collects the faults of one import.

    Args:
        skip: Whether to continue after a fault.

    Attributes:
        count: Number of faults, one per skipped line or entry.
        messages: The first 100.
    """

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.count = 0
        self.messages: list[str] = []

    def add(self, place: str, field: str, value: Any, rule: str) -> None:
        """Record a fault.

        Args:
            place: The file, and the line or entry.
            field: The invalid field.
            value: Its value.
            rule: The rule that the value breaks, such as "must be positive".

        Raises:
            AnnotationError: If faults are not skipped.
        """
        message = f"{place}, {field}: {shortened(value)} {rule}"
        if not self.skip:
            raise AnnotationError(f"{message} (--skip-bad skips and counts invalid entries)")
        self.count += 1
        if len(self.messages) < _MOST_SHOWN:
            self.messages.append(message)

    def keep(self, table: pa.Table, good: NDArray[np.bool_], place: str, field: str, rule: str) -> pa.Table:
        """Return the good rows, and record a fault for each other row.

        Args:
            table: The rows; the column `line` holds their line numbers.
            good: (N,) bool; which rows are good.
            place: The file.
            field: The invalid column, whose value the message shows.
            rule: The rule that the other rows break.
        """
        if good.all():
            return table
        for row in np.flatnonzero(~good).tolist():
            value = table[field][row].as_py()
            self.add(f"{place}: line {table['line'][row].as_py()}", field, value, rule)
        return table.filter(pa.array(good))


def shortened(value: Any) -> str:
    """Return a value's repr, cut off after 80 characters."""
    text = repr(value[: _MOST_CHARACTERS + 1] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."
