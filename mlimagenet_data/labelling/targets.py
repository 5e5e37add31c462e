"""Labels of a view, and target vectors of the labels. Pure NumPy."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.records import UNANNOTATED, Record
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.labelling.policy import ABSENT, PRESENT, UNDECIDED, LabelPolicy
from mlimagenet_data.labelling.shares import view_shares
from mlimagenet_data.views.view import View

__all__ = ["ViewLabels", "label_view", "multi_hot", "pooled", "regions_by_class", "regions_of", "soft", "with_ignore"]


class ViewLabels(NamedTuple):
    """The labels of one image in one view.

    Attributes:
        states: PRESENT, ABSENT or UNDECIDED for each class of the image, and for an original label added by a rule.
        where: Each located class's regions, with its score in each.
        region_states: PRESENT, ABSENT or UNDECIDED for each region.
        shares: (visibility, coverage) of each region.
        record: The image's annotations.
    """

    states: dict[int, int]
    where: dict[int, dict[int, float]]
    region_states: dict[int, int]
    shares: dict[int, tuple[float, float]]
    record: Record


def label_view(record: Record, policy: LabelPolicy, view: View | None = None) -> ViewLabels:
    """Return the labels of an image in a view of it.

    Args:
        record: The image's annotations.
        policy: The thresholds and rules.
        view: The view; None for the whole image.
    """
    if view is None:
        view = View.of(*(record.size or (1, 1)))
    if record.status == UNANNOTATED and record.label is not None:
        return ViewLabels({record.label: PRESENT}, {}, {}, {}, record)
    shares = view_shares(record.stacks, view)
    region_states = {k: policy.state(*share) for k, share in shares.items()}
    labels = policy.counted(record.labels, record.label)
    seen_in = regions_by_class(record, {index for index, _ in labels})
    states: dict[int, int] = {}
    located: dict[int, dict[int, float]] = {}
    for index, _ in labels:
        if index in seen_in:
            where = located[index] = regions_of(seen_in[index], index, record.label, policy)
            found = [region_states[k] for k in where]
            states[index] = PRESENT if PRESENT in found else UNDECIDED if UNDECIDED in found else ABSENT
        elif policy.unlocated == "spread":
            states[index] = policy.state(view.visible_area, 0.0)
        else:
            states[index] = PRESENT if policy.unlocated == "keep" else ABSENT
    _apply_original_rules(record, policy, states, located)
    return ViewLabels(states, located, region_states, shares, record)


def regions_by_class(record: Record, wanted: Container[int] | None = None) -> dict[int, dict[int, float]]:
    """Return each class's regions (only the wanted classes, if given): those with it in their top-k, and its score."""
    out: dict[int, dict[int, float]] = {}
    position = 0
    for k, count in enumerate(record.topk_of):
        for place in range(position, position + count):
            index = record.topk_class[place]
            if wanted is None or index in wanted:
                out.setdefault(index, {})[k] = record.topk_score[place]
        position += count
    return out


def regions_of(scores: dict[int, float], index: int, original: int | None, policy: LabelPolicy) -> dict[int, float]:
    """Return the regions that count for a class, and their scores.

    Args:
        scores: The regions whose top-k has the class, and their scores.
        index: The class.
        original: The image's original label.
        policy: The rules.
    """
    if len(scores) == 1:
        return scores
    least = policy.least_score(index, original, max(scores.values()))
    return {k: score for k, score in scores.items() if score >= least}


def _apply_original_rules(
    record: Record, policy: LabelPolicy, states: dict[int, int], located: dict[int, dict[int, float]]
) -> None:
    original = record.label
    if original is None:
        return
    if policy.original == "if_located" and original not in located:
        states.pop(original, None)
    if policy.original == "unless_gone" and states.get(original) == UNDECIDED:
        states[original] = PRESENT
    empty = policy.empty == "original" and PRESENT not in states.values()
    if policy.original == "always" or empty:
        states[original] = PRESENT


def multi_hot(labels: ViewLabels, num_classes: int = NUM_CLASSES) -> NDArray[np.float32]:
    """Return (num_classes,) float32: 1 for classes that are PRESENT, else 0."""
    target = np.zeros(num_classes, np.float32)
    for index, state in labels.states.items():
        if state == PRESENT:
            target[index] = 1.0
    return target


def soft(labels: ViewLabels, num_classes: int = NUM_CLASSES) -> NDArray[np.float32]:
    """Return (num_classes,) float32: the score of classes that are PRESENT, else 0.

    The score is the best among the class's present regions, else the image's score for the class, else 1 (an original
    label present only by a rule).
    """
    target = np.zeros(num_classes, np.float32)
    of_image = dict(labels.record.labels)
    for index, state in labels.states.items():
        if state == PRESENT:
            where = labels.where.get(index, {})
            shown = [score for k, score in where.items() if labels.region_states[k] == PRESENT]
            target[index] = max(shown, default=of_image.get(index, 1.0))
    return target


def with_ignore(labels: ViewLabels, num_classes: int = NUM_CLASSES) -> NDArray[np.float32]:
    """Return (num_classes,) float32: 1 for classes that are PRESENT, -1 for UNDECIDED ones, else 0."""
    target = np.zeros(num_classes, np.float32)
    for index, state in labels.states.items():
        target[index] = state
    return target


def pooled(labels: ViewLabels, num_classes: int = NUM_CLASSES) -> NDArray[np.float32]:
    """Return a distribution, (num_classes,) float32: the visible regions' top-k scores weighted by visible area.

    Yun et al., "Re-labeling ImageNet" (ReLabel), arXiv 2101.05022, pools a label map over the crop; this pools the
    regions' predictions. The target of a view without visible regions is the original label, or zeros if there is none.
    """
    target = np.zeros(num_classes, np.float32)
    for index, where in regions_by_class(labels.record).items():
        target[index] = sum(labels.shares[k][1] * score for k, score in where.items())
    total = float(target.sum())
    if total > 0:
        return np.asarray(target / total)
    if labels.record.label is not None:
        target[labels.record.label] = 1.0
    return target
