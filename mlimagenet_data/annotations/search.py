"""Find images by their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.files.parquet import read_batches

__all__ = ["Query", "classes_beside", "find_images", "has_labels"]

_BATCH_ROWS = 50_000


class Query(NamedTuple):
    """Conditions on an image's labels.

    Attributes:
        shown: Groups of classes; the labels must hold one of each group.
        not_shown: Classes that must not be among the labels.
        min_score: Minimum score for a label to count.
    """

    shown: tuple[tuple[int, ...], ...]
    not_shown: tuple[int, ...] = ()
    min_score: float = 0.0


class _Labels(NamedTuple):
    ids: Any
    row_of: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]


def _nothing(count: int) -> None:
    """Advance no progress."""


def has_labels(files: Sequence[Path]) -> bool:
    """Return whether any image has a label.

    Args:
        files: Shards already checked by opening an `AnnotationStore` of them.
    """
    return any(part.classes.size for part in _labels(files, 0.0, _nothing))


def find_images(
    files: Sequence[Path], query: Query, advance: Callable[[int], object] = _nothing
) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Yield the image_id of each image that matches a query, and the best (class, score) of each group in `shown`.

    Args:
        files: Shards already checked by opening an `AnnotationStore` of them.
        query: Conditions to match.
        advance: Called with the number of rows read since the last call.
    """
    for part in _labels(files, query.min_score, advance):
        for row in _matching(part, query).tolist():
            mine = slice(*np.searchsorted(part.row_of, (row, row + 1)))
            scores = dict(zip(part.classes[mine].tolist(), part.scores[mine].tolist(), strict=True))
            best = [max((scores.get(index, -1.0), -index) for index in group) for group in query.shown]
            yield part.ids[row].as_py(), [(-index, score) for score, index in best]


def classes_beside(
    files: Sequence[Path], query: Query, advance: Callable[[int], object] = _nothing
) -> tuple[int, list[tuple[int, int]]]:
    """Return the number of images that match a query, and (class, images) of their other labels, most frequent first.

    Args:
        files: Shards already checked by opening an `AnnotationStore` of them.
        query: Conditions to match.
        advance: Called with the number of rows read since the last call.
    """
    counts, images = np.zeros(NUM_CLASSES, np.int64), 0
    for part in _labels(files, query.min_score, advance):
        rows = _matching(part, query)
        images += len(rows)
        counts += np.bincount(part.classes[np.isin(part.row_of, rows)], minlength=NUM_CLASSES)
    counts[[index for group in query.shown for index in group]] = 0
    order = np.argsort(-counts, kind="stable")
    return images, [(int(index), int(counts[index])) for index in order if counts[index]]


def _matching(part: _Labels, query: Query) -> NDArray[np.int64]:
    """Return the rows that match a query, sorted."""

    def showing(group: tuple[int, ...]) -> NDArray[np.bool_]:
        out = np.zeros(len(part.ids), np.bool_)
        out[part.row_of[np.isin(part.classes, group)]] = True
        return out

    good = np.ones(len(part.ids), np.bool_)
    for group in query.shown:
        good &= showing(group)
    good &= ~showing(query.not_shown)
    return np.flatnonzero(good)


def _labels(files: Sequence[Path], min_score: float, advance: Callable[[int], object]) -> Iterator[_Labels]:
    for file in files:
        for _, batch in read_batches(file, ["image_id", "labels", "scores"], _BATCH_ROWS):
            lengths = np.diff(batch.column("labels").offsets.to_numpy())
            row_of = np.repeat(np.arange(batch.num_rows), lengths)
            classes = batch.column("labels").flatten().to_numpy(zero_copy_only=False).astype(np.int64)
            scores = batch.column("scores").flatten().to_numpy(zero_copy_only=False)
            kept = scores >= np.float32(min_score)
            yield _Labels(batch.column("image_id"), row_of[kept], classes[kept], scores[kept])
            advance(batch.num_rows)
