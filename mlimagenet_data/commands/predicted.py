"""Read out-of-sample predictions for `mlimagenet audit`, in chunks, and join them to annotation rows."""

from __future__ import annotations

import json
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.audit import find_rows
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.predictions import Activation, probabilities

__all__ = ["Predicted", "open_predicted"]

# raised by safetensors, json and NumPy's header parser on damaged files, as in `mlimagenet_data.evaluate.predictions`
_DAMAGED = (
    OSError, ValueError, TypeError, KeyError, EOFError, OverflowError, RecursionError, SyntaxError, tokenize.TokenError,
)  # fmt: skip
_CHUNK = 4096  # images whose logits are in memory at once: 16 MB


@dataclass(frozen=True)
class Predicted:
    """Predictions joined to the rows of a split.

    Attributes:
        path: The file.
        rows: (N,) row of each prediction, -1 if the split has no such readable image.
        activation: Turns logits into probabilities.
        read: Returns the logits from one position up to another: (n, K).
    """

    path: Path
    rows: NDArray[np.int64]
    activation: Activation
    read: Callable[[int, int], NDArray[np.floating]]

    @property
    def unmatched(self) -> int:
        """Number of predictions without a row."""
        return int((self.rows < 0).sum())

    def chunks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield rows (n,) and their probabilities (n, K). Logits that are all NaN, of unreadable images, are left out.

        Raises:
            EvaluationError: If a prediction is only partly finite; the message names row and class.
        """
        for start in range(0, len(self.rows), _CHUNK):
            logits = np.asarray(self.read(start, min(start + _CHUNK, len(self.rows))))
            given = np.logical_not(np.isnan(logits).all(axis=1))
            bad = np.argwhere(np.logical_and(~np.isfinite(logits), given[:, None]))
            if bad.size:
                row, k = bad[0].tolist()
                raise EvaluationError(
                    f"{self.path}: {logits[row, k]} in row {start + row}, class {k}; logits must be finite"
                )
            rows = self.rows[start : start + _CHUNK]
            kept = given & (rows >= 0)
            yield rows[kept], probabilities(logits[kept], self.activation)


def open_predicted(path: Path, store: AnnotationStore, activation: Activation) -> Predicted:
    """Open a file of logits that `mlimagenet eval --save-predictions` or another program wrote.

    Args:
        path: A .safetensors file with a tensor `logits` (N, K) and the images' names, or a file without names (.npy)
            with one row for each readable image of the split, in its order.
        store: The annotations.
        activation: Turns logits into probabilities.

    Raises:
        EvaluationError: If the file is damaged, has another shape, or holds predictions of other images.
    """
    if path.suffix not in (".safetensors", ".npy"):
        raise EvaluationError(f"{path}: the file name must end in .safetensors or .npy")
    try:
        shape, kind, read, files = _open_safetensors(path) if path.suffix == ".safetensors" else _open_npy(path)
    except _DAMAGED as error:
        raise EvaluationError(f"{path}: cannot read predictions: {error}") from error
    if len(shape) != 2 or shape[1] != NUM_CLASSES or not np.issubdtype(kind, np.floating):
        raise EvaluationError(f"{path}: {kind} {shape}; must be floats of shape (images, {NUM_CLASSES})")
    usable = store.usable_rows()
    if files is not None and len(files) != shape[0]:
        raise EvaluationError(f"{path}: {len(files)} file names for {shape[0]} rows; save the predictions again")
    if files is None and len(usable) != shape[0]:
        raise EvaluationError(
            f"{path}: {shape[0]} rows without file names, but split {store.split} has {len(usable)} readable images; "
            "save the predictions as .safetensors, which keeps the names"
        )
    return Predicted(path, usable if files is None else _joined(path, store, usable, files), activation, read)


def _joined(path: Path, store: AnnotationStore, usable: NDArray[np.int64], files: list[str]) -> NDArray[np.int64]:
    rows = find_rows(store, files)
    if not (rows >= 0).any():
        named = f"it names {files[0]!r}" if files else "it is empty"
        annotated = f", the dataset has {store.file_name(0)!r}" if len(store) else ", the dataset is empty"
        raise EvaluationError(
            f"{path}: predictions of other images: {named}{annotated}; predict the images of split {store.split}"
        )
    row, count = Counter(rows[rows >= 0].tolist()).most_common(1)[0]
    if count > 1:
        first, second = np.flatnonzero(rows == row)[:2].tolist()
        raise EvaluationError(
            f"{path}: rows {first} and {second}, {files[first]!r} and {files[second]!r}, are the same image; "
            "keep one prediction of each"
        )
    return np.where(np.isin(rows, usable), rows, -1)


_Opened = tuple[tuple[int, ...], np.dtype[np.generic], Callable[[int, int], NDArray[np.floating]], list[str] | None]


def _open_safetensors(path: Path) -> _Opened:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, "numpy")  # checks sizes against the file's before reading
        if "logits" not in file.keys():  # noqa: SIM118 - not a dict
            raise ValueError(f"no tensor is named logits, only {sorted(file.keys())[:9]}")
        part, names = file.get_slice("logits"), json.loads((file.metadata() or {}).get("files", "null"))
        shape = tuple(part.get_shape())
        kind = part[0:0].dtype if shape else np.dtype(np.float32)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("the metadata's `files` must be a list of names")
    return shape, kind, lambda start, stop: part[start:stop], names


def _open_npy(path: Path) -> _Opened:
    values = np.lib.format.open_memmap(path, mode="r")  # mapped: a false size allocates no memory
    return values.shape, values.dtype, lambda start, stop: values[start:stop], None
