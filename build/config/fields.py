"""How options of the build are declared and checked: a dataclass field each, with its help, range and stage."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from dataclasses import field
from typing import Any

__all__ = ["ConfigError", "check", "option"]


class ConfigError(ValueError):
    """An option that is unknown, of the wrong type, or out of range."""


def option(default: Any, text: str, *, stage: str = "", low: float = -math.inf, high: float = math.inf,
            choices: tuple[str, ...] = (), group: str = "", metavar: str = "") -> Any:  # fmt: skip
    """Declare an option. `stage` is the stage whose output it changes: a new value makes that stage's old output stale."""
    metadata = {
        "help": text,
        "stage": stage,
        "low": low,
        "high": high,
        "choices": choices,
        "group": group or stage or "run",
        "metavar": metavar,
    }
    return field(default=default, metadata=metadata)


def check(owner: type, declared: dataclasses.Field[Any], value: Any) -> None:
    """Raise ConfigError unless a value has the type and range of a field of `owner`."""
    kinds = _types(owner, declared.name)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        names = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ConfigError(f"{declared.name}: {value!r} is not {names}")
    choices = declared.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(f"{declared.name}: {value!r}; it must be one of {', '.join(choices)}")
    low, high = declared.metadata["low"], declared.metadata["high"]
    if isinstance(value, int | float) and not low <= value <= high:  # false for NaN, too
        raise ConfigError(f"{declared.name}: {value} is not in {low:g} to {high:g}")


@functools.cache  # a look at all of a class's hints takes a millisecond
def _types(owner: type, name: str) -> tuple[type, ...]:
    hint = typing.get_type_hints(owner)[name]
    kinds = typing.get_args(hint) or (hint,)
    return (*kinds, int) if float in kinds else kinds
