"""What is wrong with a file that is read: the first fault ends the reading, or all are counted, and their entries left out."""

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
        skip: Whether to go on after a fault.

    Attributes:
        count: Number of faults; each stands for a line or an entry that is left out.
        messages: The first hundred.
    """

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.count = 0
        self.messages: list[str] = []

    def add(self, place: str, field: str, value: Any, rule: str) -> None:
        """Note a fault.

        Args:
            place: The file, and the line or entry in it.
            field: What is wrong there.
            value: What stands there.
            rule: How it breaks the form.

        Raises:
            AnnotationError: If faults are not skipped.
        """
        message = f"{place}, {field}: {shortened(value)} {rule}"
        if not self.skip:
            raise AnnotationError(f"{message} (--skip-bad leaves such entries out, and counts them)")
        self.count += 1
        if len(self.messages) < _MOST_SHOWN:
            self.messages.append(message)

    def keep(self, table: pa.Table, good: NDArray[np.bool_], place: str, field: str, rule: str) -> pa.Table:
        """Return the rows that are good, and note the others; the table's column `line` tells where they are.

        Args:
            table: The rows.
            good: (N,) which of them are good.
            place: The file.
            field: What is wrong in the others: the name of the column, and of what is shown.
            rule: How they break the form.
        """
        if good.all():
            return table
        for row in np.flatnonzero(~good).tolist():
            value = table[field][row].as_py()
            self.add(f"{place}: line {table['line'][row].as_py()}", field, value, rule)
        return table.filter(pa.array(good))


def shortened(value: Any) -> str:
    """Return a value's text, at most 80 characters of it."""
    text = repr(value[: _MOST_CHARACTERS + 1] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."
