"""Join a dataset's rows to the images of a truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.sets.truth import Truth

__all__ = ["Matched", "Side", "match", "originals_of", "sides_of"]

Side = tuple[tuple[int, float], ...]  # an image's labels: (class, score), best first


@dataclass(frozen=True)
class Matched:
    """A dataset's rows in the truth's order.

    Attributes:
        store: The dataset.
        rows: (N,) row of each image, -1 if the dataset lacks it.
    """

    store: AnnotationStore
    rows: NDArray[np.int64]

    @property
    def missing(self) -> int:
        """Number of the truth's images that the dataset lacks."""
        return int((self.rows < 0).sum())

    def record(self, image: int) -> Record | None:
        """Return an image's annotations, None if the dataset lacks it."""
        row = int(self.rows[image])
        return None if row < 0 else self.store.record(row)

    def records(self) -> Iterator[Record | None]:
        """Yield the annotations of all images, in the truth's order."""
        return map(self.record, range(len(self.rows)))

    def croppable(self) -> list[int]:
        """Return the images that were readable and have a size, in the order of the dataset's rows."""
        order = np.argsort(self.rows, kind="stable").tolist()
        return [image for image in order if _is_croppable(self.record(image))]


def _is_croppable(record: Record | None) -> bool:
    return record is not None and record.size is not None and record.status in USABLE_STATUSES


def match(store: AnnotationStore, truth: Truth) -> Matched:
    """Join by `mlimagenet_data.names.join_key`.

    Raises:
        EvaluationError: If the dataset has none of the images.
    """
    rows = np.full(len(truth), -1, np.int64)
    for image, image_id in enumerate(truth.ids):
        try:
            rows[image] = store.find(image_id)
        except KeyError:
            continue
    if (rows < 0).all():
        example = f"; it has {store.image_id(0)[:200]}" if len(store) else ""
        raise EvaluationError(
            f"{store.source}: none of the {len(truth)} images of {truth.source}, such as {truth.ids[0][:200]}, is in split "
            f"{store.split}{example}"
        )
    return Matched(store, rows)


def originals_of(truth: Truth, matched: Matched) -> list[int | None]:
    """Return each image's original class: the truth's, else the dataset's, else None."""
    found = matched.store.original_labels()
    of_rows = [int(found[row]) if row >= 0 else -1 for row in matched.rows.tolist()]
    known = [example.original for example in truth.examples]
    return [row if k is None and row >= 0 else k for k, row in zip(known, of_rows, strict=True)]


def sides_of(matched: Matched) -> list[Side | None]:
    """Return each image's labels, None if the dataset lacks it."""
    return [None if record is None else tuple(dict(record.labels).items()) for record in matched.records()]
