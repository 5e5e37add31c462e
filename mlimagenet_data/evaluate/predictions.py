"""Predictions: logits on the images of a set, saved to a file to evaluate them again without the network."""

from __future__ import annotations

import json
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.arrays import Floats, Mask
from mlimagenet_data.files.atomic import write_atomic

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Predictions",
    "load_predictions",
    "probabilities",
    "read_rows",
    "save_predictions",
]

Activation = Literal["softmax", "sigmoid"]
ACTIVATIONS = ("softmax", "sigmoid")
# raised by safetensors, json and NumPy's header parser on damaged files, found by fuzzing
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    RecursionError,
    SyntaxError,
    tokenize.TokenError,
)
_ROWS = 4096  # images whose probabilities are computed at a time


@dataclass(frozen=True)
class Predictions:
    """Logits of a set's images.

    Attributes:
        logits: (N, 1000) float32; NaN rows are unreadable images.
        model: The network's name.
        failures: (file, reason) of the unreadable images.
    """

    logits: NDArray[np.float32]
    model: str
    failures: list[tuple[str, str]] = field(default_factory=list)


def read_rows(logits: Floats) -> Mask:
    """Return which rows hold a prediction, i.e. are not all NaN: (N,) bool.

    Raises:
        EvaluationError: If a row is only partly finite; the message names row and class.
    """
    out = np.zeros(len(logits), np.bool_)
    for start in range(0, len(logits), _ROWS):
        part = logits[start : start + _ROWS]
        read = np.logical_not(np.isnan(part).all(axis=1))
        out[start : start + _ROWS] = read
        bad = np.argwhere(~np.isfinite(part) & read[:, None])
        if bad.size:
            row, k = bad[0].tolist()
            raise EvaluationError(f"predictions: {part[row, k]} in row {start + row}, class {k}; must be finite")
    return out


def probabilities(logits: Floats, activation: Activation) -> NDArray[np.float32]:
    """Convert logits to probabilities: (N, K) float32 in [0, 1]. NaN rows stay NaN.

    Args:
        logits: (N, K).
        activation: `softmax` for networks trained with one label per image, `sigmoid` for multi-label networks.
    """
    out = np.empty(logits.shape, np.float32)
    for start in range(0, len(logits), _ROWS):
        part = logits[start : start + _ROWS].astype(np.float32)
        if activation == "softmax":
            part = np.exp(part - part.max(axis=1, keepdims=True))
            part /= part.sum(axis=1, keepdims=True)
        else:
            part = 0.5 + 0.5 * np.tanh(0.5 * part)
        out[start : start + _ROWS] = part
    return out


def save_predictions(path: Path, predictions: Predictions, files: Sequence[str]) -> None:
    """Write predictions as safetensors with the images' names, or as NumPy's .npy without them.

    Raises:
        EvaluationError: If the suffix is neither .safetensors nor .npy.
    """
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        facts = {"model": predictions.model, "failures": predictions.failures, "files": list(files)}
        metadata = {name: json.dumps(fact) for name, fact in facts.items()}
        write_atomic(path, lambda temporary: save_file({"logits": predictions.logits}, temporary, metadata))
    elif path.suffix == ".npy":
        write_atomic(path, lambda temporary: _save_npy(temporary, predictions.logits))
    else:
        raise EvaluationError(f"{path}: the file name must end in .safetensors or .npy")


def _save_npy(path: Path, values: Floats) -> None:
    with open(path, "wb") as file:  # np.save would add .npy to the temporary name
        np.save(file, values, allow_pickle=False)


def load_predictions(path: Path, files: Sequence[str]) -> Predictions:
    """Read predictions of these images, in this order, written by `save_predictions` or another program.

    Args:
        path: A .safetensors file with a tensor `logits` (N, 1000), or a .npy file, which cannot be checked for image
            names.
        files: The names of the set's images.

    Raises:
        EvaluationError: If the file is damaged, or holds predictions of other images.
    """
    try:
        logits, facts = _read_safetensors(path) if path.suffix == ".safetensors" else _read_npy(path)
        known = {name: json.loads(fact) for name, fact in facts.items() if name in ("model", "failures", "files")}
    except _DAMAGED as error:
        raise EvaluationError(f"{path}: cannot read predictions: {error}") from error
    if logits.shape != (len(files), NUM_CLASSES) or not np.issubdtype(logits.dtype, np.floating):
        raise EvaluationError(
            f"{path}: {logits.dtype} {logits.shape}; the set needs floats of shape ({len(files)}, {NUM_CLASSES})"
        )
    names = known.get("files", list(files))
    if names != list(files):
        pairs = zip_longest(names if isinstance(names, list) else [names], files)
        row, (name, expected) = next((k, pair) for k, pair in enumerate(pairs) if pair[0] != pair[1])
        raise EvaluationError(
            f"{path}: row {row} is {str(name)[:200]}, but the set has {expected} there; these are predictions of other images"
        )
    given = known.get("failures")
    reasons = {str(name): str(why) for name, why in given} if isinstance(given, list) else {}
    failures = [
        (files[row], reasons.get(files[row], "no prediction")) for row in np.flatnonzero(~read_rows(logits)).tolist()
    ]
    return Predictions(logits.astype(np.float32, copy=False), str(known.get("model", path.name)), failures)


def _read_safetensors(path: Path) -> tuple[NDArray[np.floating], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:  # checks sizes against the file's before reading
            if "logits" not in file.keys():  # noqa: SIM118 - not a dict
                raise ValueError(f"no tensor is named logits, only {sorted(file.keys())[:9]}")
            return file.get_tensor("logits"), file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _read_npy(path: Path) -> tuple[NDArray[np.floating], dict[str, str]]:
    return np.asarray(np.lib.format.open_memmap(path, mode="r")), {}  # mapped: a false size allocates no memory
