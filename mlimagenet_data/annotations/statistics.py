"""Statistics of annotations: labels per image, images per class, co-occurring classes and confirmed original labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.classes import NUM_CLASSES, ClassTable, imagenet_classes
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.parquet import read_batches
from mlimagenet_data.files.single import PICTURE_METADATA

__all__ = ["Statistics", "collect", "plot"]

_COLUMNS = ["label", "labels", "regions.list.element.area", "status"]


@dataclass(frozen=True)
class Statistics:
    """Counts over the rows of a split.

    Attributes:
        images: Number of rows.
        readable: Number of rows whose image could be read; all counts below cover only these.
        regions: Number of regions.
        labels: Number of labels.
        by_labels: Number of images with 0, 1, 2, ... labels.
        by_regions: Number of images with 0, 1, 2, ... regions.
        per_class: (K) images with the class as a label.
        original_per_class: (K) images with the class as their original label.
        pairs: (class, other class, images with both labels); classes ascending, pairs by descending count.
        with_original: Images with an original label.
        original_among: Images whose original label is among their labels.
        original_first: Images whose original label has the best score.
    """

    images: int
    readable: int
    regions: int
    labels: int
    by_labels: list[int]
    by_regions: list[int]
    per_class: list[int]
    original_per_class: list[int]
    pairs: list[tuple[int, int, int]]
    with_original: int
    original_among: int
    original_first: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


def collect(
    files: Sequence[Path], *, most_pairs: int = 1000, advance: Callable[[int], object] = lambda count: None
) -> Statistics:
    """Return the statistics of a split's Parquet files, read in batches.

    Args:
        files: The shards.
        most_pairs: Maximum number of class pairs to keep, most frequent first.
        advance: Called with the number of rows read since the last call.

    Raises:
        AnnotationError: If a file cannot be read, is damaged, or holds a value that the schema does not allow.
    """
    counts = _Counts()
    for file in files:
        for _, batch in read_batches(file, _COLUMNS):
            try:
                counts.add(batch)
            except (pa.ArrowException, AttributeError, KeyError, TypeError, ValueError) as error:
                raise AnnotationError(
                    f"{file}: a column is not as schema version 1 requires: {error}; `mlimagenet verify` names the rows"
                ) from error
            advance(batch.num_rows)
    order = np.argsort(-counts.pairs, kind="stable")[:most_pairs]
    found = [(int(k) // NUM_CLASSES, int(k) % NUM_CLASSES, int(counts.pairs[k])) for k in order if counts.pairs[k]]
    by_labels, by_regions, totals = counts.by_labels, counts.by_regions, counts.totals
    return Statistics(
        totals["images"], by_labels.total(), sum(k * n for k, n in by_regions.items()), int(counts.per_class.sum()),
        _histogram(by_labels), _histogram(by_regions), counts.per_class.tolist(), counts.original_per_class.tolist(),
        found, totals["with"], totals["among"], totals["first"],
    )  # fmt: skip


class _Counts:
    """Counts over the rows added so far."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.by_labels, self.by_regions = Counter[int](), Counter[int]()
        self.per_class, self.original_per_class = np.zeros(NUM_CLASSES, np.int64), np.zeros(NUM_CLASSES, np.int64)
        self.pairs = np.zeros(NUM_CLASSES * NUM_CLASSES, np.int32)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch; raise ValueError for a class that does not exist."""
        self.totals["images"] += batch.num_rows
        usable = np.isin(batch.column("status").to_numpy(zero_copy_only=False), list(USABLE_STATUSES))
        rows = batch.filter(pa.array(usable))
        flat, lengths = _lists(rows.column("labels"))
        self.by_labels.update(lengths.tolist())
        self.by_regions.update(_lists(rows.column("regions"))[1].tolist())
        self.per_class += _per_class(flat)
        original = rows.column("label").fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        self.original_per_class += _per_class(original[original >= 0])
        _count_pairs(flat, lengths, self.pairs)
        starts = np.cumsum(lengths) - lengths
        row_of = np.repeat(np.arange(len(lengths)), lengths)
        self.totals["with"] += int((original >= 0).sum())
        self.totals["among"] += int((flat == original[row_of]).sum())
        some = lengths > 0
        self.totals["first"] += int((flat[starts[some]] == original[some]).sum())


def _per_class(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    if classes.size and not 0 <= classes.min() <= classes.max() < NUM_CLASSES:
        raise ValueError(f"class {classes.min() if classes.min() < 0 else classes.max()} does not exist")
    return np.bincount(classes, minlength=NUM_CLASSES)


def _lists(column: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the concatenated values of lists and the lists' lengths; only the lengths for lists of structs."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = column.flatten()
    if pa.types.is_struct(flat.type):
        return np.zeros(0, np.int64), lengths
    return flat.to_numpy(zero_copy_only=False).astype(np.int64), lengths


def _count_pairs(flat: NDArray[np.int64], lengths: NDArray[np.int64], pairs: NDArray[np.int32]) -> None:
    """Count each pair of labels in a row, at position smaller class x K + larger class."""
    starts = np.cumsum(lengths) - lengths
    for size in np.unique(lengths[lengths > 1]):
        rows = flat[starts[lengths == size][:, None] + np.arange(size)]
        first, second = np.triu_indices(size, 1)
        low, high = np.minimum(rows[:, first], rows[:, second]), np.maximum(rows[:, first], rows[:, second])
        np.add.at(pairs, (low * NUM_CLASSES + high).ravel(), 1)


def _histogram(counts: Counter[int]) -> list[int]:
    return [counts[k] for k in range(max(counts, default=-1) + 1)]


def plot(statistics: Statistics, path: Path, classes: ClassTable | None = None) -> None:
    """Draw labels and regions per image, images per class, and the most frequent pairs. Requires matplotlib."""
    from matplotlib.figure import Figure

    names = (classes or imagenet_classes()).names
    figure = Figure(figsize=(11, 7), layout="constrained")
    (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2)
    for axes, counts, what in (
        (top_left, statistics.by_labels, "labels"),
        (top_right, statistics.by_regions, "regions"),
    ):
        axes.bar(range(len(counts)), counts, color="#2563eb")
        axes.set(xlabel=f"{what} per image", ylabel="images")
    ranks = np.sort(statistics.per_class)[::-1]
    bottom_left.plot(np.arange(1, len(ranks) + 1), ranks, color="#2563eb", label="as a label")
    originals = np.sort(statistics.original_per_class)[::-1]
    bottom_left.plot(np.arange(1, len(originals) + 1), originals, color="#a1a1aa", label="as the original label")
    bottom_left.set(xlabel="classes, most frequent first", ylabel="images")
    bottom_left.legend(frameon=False)
    pairs = statistics.pairs[:12][::-1]
    bottom_right.barh(range(len(pairs)), [count for *_, count in pairs], color="#2563eb")
    bottom_right.set_yticks(range(len(pairs)), [f"{names[a]} + {names[b]}"[:44] for a, b, _ in pairs], fontsize=8)
    bottom_right.set(xlabel="images with both labels")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png", metadata=PICTURE_METADATA)
