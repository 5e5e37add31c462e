"""Label sets against the classes that people say are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.evaluate.compare.bootstrap import Array, Measure, additive, share
from mlimagenet_data.evaluate.compare.matching import Side
from mlimagenet_data.evaluate.sets.truth import Truth

__all__ = ["BY_COUNT", "Reading", "label_measure", "read_labels", "single_labels"]

BY_COUNT = ("f1_of_1", "f1_of_2", "f1_of_3", "f1_of_4_or_more")
_COUNTS = ("labels", "right", "valid", "others", "others_found", "added", "added_right", "best", "images")


class Reading(NamedTuple):
    """One image's labels as the truth judges them. Undecided classes (unclear or not judged) are left out.

    Attributes:
        labels: (class, score) pairs, best first.
        valid: Classes that the image shows.
        original: Original class, None if unknown or undecided.
        best_is_right: Whether the best judged label is valid or unclear.
        is_missing: Whether the dataset lacks the image.
    """

    labels: Side
    valid: frozenset[int]
    original: int | None
    best_is_right: bool
    is_missing: bool


def read_labels(truth: Truth, sides: Sequence[Side | None], originals: Sequence[int | None]) -> list[Reading]:
    """Return the reading of each image's labels; of an image that the dataset lacks, an empty one."""
    judged, out = truth.judged, []
    for example, side, original in zip(truth.examples, sides, originals, strict=True):
        valid, unclear = frozenset(example.valid), frozenset(example.unclear) - frozenset(example.valid)
        seen = [(index, score) for index, score in side or () if judged[index]]
        labels = tuple((index, score) for index, score in seen if index not in unclear)
        is_decided = original is not None and bool(judged[original]) and original not in unclear
        best = bool(seen) and seen[0][0] in valid | unclear
        out.append(Reading(labels, valid, original if is_decided else None, best, side is None))
    return out


def single_labels(originals: Sequence[int | None]) -> list[Side | None]:
    """Return the original class as each image's only label, with score 1."""
    return [() if original is None else ((original, 1.0),) for original in originals]


def label_measure(readings: Sequence[Reading]) -> Measure:
    """Return the measure of label sets: micro averages over images, and F1 by number of valid classes.

    Figures: `f1`, `precision`, `recall`; `added`, the number of labels other than the original, and `added_right`, the
    share of them that are valid; `others_found`, the share of valid classes other than the original that are labels;
    `labels_per_image`; `best_right`, the share of images whose best label is valid or unclear; those of `BY_COUNT`.
    """
    counts = np.array([_counts(reading) for reading in readings], np.float64).reshape(-1, len(_COUNTS))
    groups = np.clip(counts[:, _COUNTS.index("valid")], 0, len(BY_COUNT))
    parts = [counts[:, :3] * (groups == k + 1)[:, None] for k in range(len(BY_COUNT))]
    return additive(np.concatenate([counts, *parts], axis=1), _figures)


def _counts(reading: Reading) -> list[int]:
    labels = {index for index, _ in reading.labels}
    own = set() if reading.original is None else {reading.original}
    valid, added = reading.valid, labels - own
    return [
        len(labels), len(labels & valid), len(valid), len(valid - own), len((valid - own) & labels), len(added),
        len(added & valid), reading.best_is_right, 1,
    ]  # fmt: skip


def _figures(sums: Array) -> dict[str, Array]:
    of = dict(zip(_COUNTS, sums.T, strict=False))
    out = {
        "f1": _f1(sums[:, :3]),
        "precision": share(of["right"], of["labels"]),
        "recall": share(of["right"], of["valid"]),
        "added": of["added"],
        "added_right": share(of["added_right"], of["added"]),
        "others_found": share(of["others_found"], of["others"]),
        "labels_per_image": share(of["labels"], of["images"]),
        "best_right": share(of["best"], of["images"]),
    }
    first = len(_COUNTS)
    return out | {name: _f1(sums[:, first + 3 * k : first + 3 * k + 3]) for k, name in enumerate(BY_COUNT)}


def _f1(sums: NDArray[np.float64]) -> Array:
    """Return F1 from (D, 3) sums of given, right and valid labels; NaN where nothing is valid."""
    given, right, valid = sums.T
    return np.where(valid > 0, share(2 * right, given + valid), np.nan)
