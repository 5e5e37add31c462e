"""Judge labels by class probabilities: margins, cleanlab's label issues, and a report per class. Arrays only.

A label is judged by its probability and by that of the best other class. Label issues are those of confident learning
(Northcutt et al., arXiv 1911.00068), found by cleanlab without holding more than a chunk of probabilities in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ClassReport", "JudgedLabels", "find_multi_label_issues", "find_single_label_issues", "join_judged", "judge_labels",
    "report_classes",
]  # fmt: skip

_Labelled = Callable[[], Iterable[tuple[NDArray[np.integer], NDArray[np.float32]]]]


@dataclass(frozen=True)
class JudgedLabels:
    """M labels of images, each with its probability and the best other class.

    Attributes:
        image: (M,) int64, position of the label's image.
        label: (M,) int64, the class.
        probability: (M,) float32, the class's probability in [0, 1].
        other: (M,) int64, the best other class of the image; -1 if no other class has a probability above 0.
        other_probability: (M,) float32, its probability; 0 without one.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    probability: NDArray[np.float32]
    other: NDArray[np.int64]
    other_probability: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def margin_quality(self) -> NDArray[np.float32]:
        """cleanlab's normalized margin: (M,) float32, 0 if only another class is likely, 1 if only the label is."""
        return np.asarray((1 + self.probability - self.other_probability) / 2, np.float32)

    @property
    def wrong(self) -> NDArray[np.float32]:
        """Probability that the label is wrong: (M,) float32."""
        return 1 - self.probability


def judge_labels(
    image: NDArray[np.int64], label: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> JudgedLabels:
    """Look up labels in the probabilities of their images.

    Args:
        image: (M,) row of each label in `probabilities`.
        label: (M,) class of each label.
        probabilities: (N, K) in [0, 1]; rows need not sum to 1.
    """
    first = probabilities.argmax(axis=1)
    rest = probabilities.copy()
    np.put_along_axis(rest, first[:, None], -1, axis=1)
    second = rest.argmax(axis=1)
    other = np.where(first[image] == label, second[image], first[image])
    best = probabilities[image, other]
    return JudgedLabels(image, label, probabilities[image, label], np.where(best > 0, other, -1), best)


def join_judged(parts: Sequence[JudgedLabels], images: Sequence[int]) -> JudgedLabels:
    """Concatenate the labels of consecutive groups of images.

    Args:
        parts: Labels of each group; positions count from the group's first image.
        images: Number of images in each group.
    """
    firsts = np.cumsum([0, *images])
    kinds = (np.int64, np.int64, np.float32, np.int64, np.float32)
    columns = [
        [part.image + first for part, first in zip(parts, firsts, strict=False)],
        *([getattr(part, name) for part in parts] for name in ("label", "probability", "other", "other_probability")),
    ]
    return JudgedLabels(*(np.concatenate([np.zeros(0, kind), *c]) for kind, c in zip(kinds, columns, strict=True)))


def find_single_label_issues(labelled: _Labelled, classes: int) -> NDArray[np.bool_]:
    """Return which single labels are issues by cleanlab's LabelInspector: (M,) bool, in the order of the chunks.

    The number of issues comes from a threshold per class, the mean probability of the class over its images; that many
    labels of the lowest normalized margin are issues, unless the label is the most probable class. The chunks are read
    twice.

    Args:
        labelled: Returns chunks of labels (n,) and their images' probabilities (n, K).
        classes: K.

    Raises:
        ModuleNotFoundError: If cleanlab is not installed; the message states how to install it.
    """
    try:
        from cleanlab.experimental.label_issues_batched import LabelInspector
    except ModuleNotFoundError as error:
        raise _without_cleanlab() from error
    inspector = LabelInspector(
        num_class=classes, verbose=False, n_jobs=1, quality_score_kwargs={"method": "normalized_margin"}
    )
    for label, probabilities in labelled():
        inspector.update_confident_thresholds(label, probabilities)
    differs: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for label, probabilities in labelled():
        inspector.score_label_quality(label, probabilities)
        differs.append(probabilities[np.arange(len(label)), label] < probabilities.max(axis=1))
    found = np.zeros(sum(map(len, differs)), np.bool_)
    if found.size:
        found[inspector.get_label_issues()] = True
    return np.logical_and(found, np.concatenate(differs))


def find_multi_label_issues(judged: JudgedLabels, sums: NDArray[np.float64], images: int) -> NDArray[np.bool_]:
    """Return which labels are issues when each class is judged against the rest: (M,) bool.

    These are the given labels among the issues that cleanlab's `find_multilabel_issues_per_class` finds with
    `filter_by="confident_learning"`. That function needs all N x K probabilities and labels at once. The thresholds of
    a class only need sums, so each class is given to cleanlab with the images that carry it.

    Args:
        judged: The labels.
        sums: (K,) sum of each class's probabilities over all images.
        images: Number of images, including those without labels.

    Raises:
        ModuleNotFoundError: If cleanlab is not installed; the message states how to install it.
    """
    try:
        from cleanlab.count import compute_confident_joint
    except ModuleNotFoundError as error:
        raise _without_cleanlab() from error
    found = np.zeros(len(judged), np.bool_)
    order = np.argsort(judged.label, kind="stable")
    starts = np.flatnonzero(np.diff(judged.label[order], prepend=-1))
    for members in np.split(order, starts)[1:]:
        p = judged.probability[members].astype(np.float64)
        others = images - len(p)
        absent = 1 - (sums[judged.label[members[0]]] - p.sum()) / others if others else 2.0  # 2: no image is confident
        _, issues = compute_confident_joint(
            np.ones(len(p), np.int64), np.stack([1 - p, p], axis=1), thresholds=[absent, p.mean()],
            calibrate=False, return_indices_of_off_diagonals=True,
        )  # fmt: skip
        found[members[issues]] = True
    return found & (judged.probability < 0.5)


def _without_cleanlab() -> ModuleNotFoundError:
    return ModuleNotFoundError("auditing with predictions requires cleanlab; run pip install 'mlimagenet-data[audit]'")


@dataclass(frozen=True)
class ClassReport:
    """Judged labels of one class.

    Attributes:
        label: The class.
        images: Number of images with this label.
        suspected: How many of these labels are suspected.
        wrong: How many of them are expected to be wrong, the sum of 1 - probability.
        instead: The class that most often is more probable; None if none ever is.
        instead_images: Number of images in which it is the most probable class.
    """

    label: int
    images: int
    suspected: int
    wrong: float
    instead: int | None
    instead_images: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


def report_classes(judged: JudgedLabels, suspected: NDArray[np.bool_]) -> list[ClassReport]:
    """Return a report on each class that is a label, those with the most wrong labels first.

    Args:
        judged: The labels.
        suspected: (M,) bool, the suspected ones.
    """
    images = np.bincount(judged.label)
    counts = np.bincount(judged.label, suspected)
    wrong = np.bincount(judged.label, judged.wrong)
    instead: dict[int, tuple[int, int]] = {}
    beaten = judged.other_probability > judged.probability
    pairs, sizes = np.unique(np.stack([judged.label[beaten], judged.other[beaten]]), axis=1, return_counts=True)
    for label, other, size in zip(*pairs.tolist(), sizes.tolist(), strict=True):
        if size > instead.get(label, (0, 0))[1]:
            instead[label] = other, size
    reports = [
        ClassReport(k, int(images[k]), int(counts[k]), float(wrong[k]), *instead.get(k, (None, 0)))
        for k in np.flatnonzero(images).tolist()
    ]
    return sorted(reports, key=lambda report: (-report.wrong, report.label))
