"""Declare and check the build's options: each is a dataclass field with its help, range, stage and place in `--help`."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from dataclasses import field
from typing import Any

from mlimagenet_data.files.printing import shown

__all__ = ["ConfigError", "check", "option", "types_of"]

_MOST_BITS = 63  # of an integer


class ConfigError(ValueError):
    """An option that is unknown, of the wrong type, or out of range."""


def option(default: Any, text: str, *, group: str, stage: str = "", expert: bool = False, low: float = -math.inf,
           high: float = math.inf, choices: tuple[str, ...] = (), metavar: str = "") -> Any:  # fmt: skip
    """Declare an option.

    Args:
        default: Its default, which also sets its type.
        text: Its help.
        group: The group that shows it in `--help`.
        stage: The stage whose output it changes: a new value makes that stage's old output stale.
        expert: Show it in `--help-expert` only.
        low: The lowest legal number.
        high: The highest legal number.
        choices: The legal texts.
        metavar: The placeholder for its value in `--help`.
    """
    metadata = {
        "help": text, "group": group, "stage": stage, "expert": expert, "low": low, "high": high, "choices": choices,
        "metavar": metavar,
    }  # fmt: skip
    return field(default=default, metadata=metadata)


def check(owner: type, declared: dataclasses.Field[Any], value: Any) -> None:
    """Raise ConfigError unless a value has the type and range of a field of `owner`."""
    kinds = types_of(owner, declared.name)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ConfigError(f"{declared.name}: {shown(value)} must be of type {names}")
    choices = declared.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(f"{declared.name}: {shown(value)}; it must be one of {', '.join(choices)}")
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{declared.name}: {shown(value)} holds a NUL character")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigError(
            f"{declared.name}: {shown(value)} is not valid UTF-8; rename it, or make a link with another name"
        )
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ConfigError(f"{declared.name}: {shown(value)} is out of range")
    low, high = declared.metadata["low"], declared.metadata["high"]
    if isinstance(value, int | float) and not low <= value <= high:  # also catches NaN
        rule = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ConfigError(f"{declared.name}: {shown(value)} is out of range; it must be {rule}")


@functools.cache  # reading all of a class's hints takes a millisecond
def types_of(owner: type, name: str) -> tuple[type, ...]:
    """Return the types that an option may have."""
    hint = typing.get_type_hints(owner)[name]
    kinds = typing.get_args(hint) or (hint,)
    return (*kinds, int) if float in kinds else kinds
