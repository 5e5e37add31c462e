"""Text that is safe to print: names and values come from strangers, and a terminal obeys control characters."""

from __future__ import annotations

import argparse
import reprlib
import sys
import traceback
import warnings
from types import TracebackType
from typing import NoReturn, TextIO

__all__ = ["ArgumentParser", "guard_terminal", "printable", "shown"]

# C0 and C1 controls, which hold ESC; marks, overrides and isolates of the writing direction; line separators
_CONTROLS = {
    number: "?"
    for number in (
        *range(32), *range(127, 160), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),
    )
    if chr(number) not in "\t\n"
}  # fmt: skip
_MOST_SHOWN = 80


def printable(text: str, encoding: str | None = "utf-8") -> str:
    """Return a text with `?` for what a terminal would obey and for what an encoding cannot express.

    Tabs and line ends stay.

    Args:
        text: The text.
        encoding: That of the file that the text goes to; None counts as UTF-8, which lacks only the surrogates that
            stand for the odd bytes of file names.
    """
    encoding = encoding or "utf-8"
    return text.translate(_CONTROLS).encode(encoding, "replace").decode(encoding)


def shown(value: object) -> str:
    """Return a value as Python writes it, for an error message, cut after 80 characters.

    What it leaves out takes no memory either: a few nested lists, or a number, can be endless in print.
    """
    text = _SHORT.repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


class _Short(reprlib.Repr):
    """Looks at the first elements of outer containers only, and does not write out large integers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, _MOST_SHOWN, _MOST_SHOWN

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 256 else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors repeat a command line's arguments in printable form."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with 2."""
        super().error(printable(message, sys.stderr.encoding))


def guard_terminal() -> None:
    """Print this process's uncaught errors and its warnings in printable form from now on."""
    sys.excepthook = _print_error
    warnings.showwarning = _print_warning


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace)), sys.stderr.encoding))


def _print_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: TextIO | None = None, line: str | None = None,
) -> None:  # fmt: skip
    file = file or sys.stderr
    text = warnings.formatwarning(message, category, filename, lineno, line)
    file.write(printable(text, getattr(file, "encoding", None)))
