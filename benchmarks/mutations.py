"""Damage for fuzzing: to bytes, as by a bad disk or an interrupted download; to values, as by a faulty program."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

__all__ = ["altered", "mutated"]

_NUMBERS = (-1, 0, 1, 2, 999, 1000, 65535, -(2**31), 2**31 - 1, 2**31, 2**63)
_FRACTIONS = (math.nan, math.inf, -math.inf, -0.0, -1e-9, 1e-45, 0.5, 1.0 + 1e-7, 3e38, 1e308)
_TEXTS = (
    "",
    "..",
    "/a.JPEG",
    "a/../../b.JPEG",
    "a\x00b",
    "\ud800",
    "a" * 5000,
    "n01440764/a",
    "0" * 99,
    "~~~~~~",
    "ok",
    "train",
)


def mutated(seed: bytes, generator: np.random.Generator) -> bytes:
    """Return a file with up to eight changes: bits flipped; bytes replaced, deleted, inserted or copied within it."""
    data = bytearray(seed)
    for _ in range(int(generator.integers(1, 9))):
        if not data:
            break
        start = int(generator.integers(len(data)))
        length = int(min(len(data) - start, generator.geometric(0.2)))
        kind = generator.integers(5)
        if kind == 0:
            data[start] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            data[start : start + length] = generator.bytes(length)
        elif kind == 2:
            del data[start : start + length]
        elif kind == 3:
            other = int(generator.integers(len(data)))
            data[start : start + length] = data[other : other + length]
        else:
            data[start:start] = bytes([int(generator.choice([0, 1, 127, 128, 255, 48, 57]))]) * length
    return bytes(data)


def altered(value: Any, generator: np.random.Generator, *, any_type: bool) -> Any:
    """Return a copy of nested lists, dictionaries, strings and numbers with one to three changes.

    Args:
        value: A JSON value.
        generator: Draws the changes.
        any_type: Whether a value may change its type.
    """
    for _ in range(int(generator.integers(1, 4))):
        value = _altered_once(value, generator, any_type=any_type)
    return value


def _altered_once(value: Any, generator: np.random.Generator, *, any_type: bool) -> Any:
    """Descend, stop at each level with probability 0.2, and change the value there; copy the containers above it."""
    if isinstance(value, (list, dict)) and value and generator.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(generator.integers(len(keys)))]
        value = copy.copy(value)
        value[key] = _altered_once(value[key], generator, any_type=any_type)
        return value
    return _changed(value, generator, any_type=any_type)


def _changed(value: Any, generator: np.random.Generator, *, any_type: bool) -> Any:
    if generator.random() < 0.1:
        return None
    if any_type and generator.random() < 0.2:
        value = (True, 1, 0.5, "a", [value], {"a": value})[int(generator.integers(6))]
    if isinstance(value, (bool, int)):
        return _one_of(_NUMBERS, generator)
    if isinstance(value, float):
        return _one_of(_FRACTIONS, generator)
    if isinstance(value, str):
        garbled = mutated(value.encode(errors="replace"), generator).decode("latin-1")
        return garbled if generator.random() < 0.7 else _one_of(_TEXTS, generator)
    if isinstance(value, list):
        start = int(generator.integers(len(value) + 1))
        return (value + value, value[:start], value[start:], value[::-1], value[:1] * 3)[int(generator.integers(5))]
    gone = _one_of(tuple(value), generator) if value else None
    return {key: item for key, item in (value or {}).items() if key != gone}


def _one_of(values: tuple[Any, ...], generator: np.random.Generator) -> Any:
    return values[int(generator.integers(len(values)))]
