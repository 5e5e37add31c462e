"""From what a view shows of each region to the view's labels. Pure NumPy."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.store import UNANNOTATED, MaskStack, Record
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.views.boxes import Box, cell_edges
from mlimagenet_data.views.view import View

__all__ = [
    "ABSENT",
    "PRESENT",
    "ROUNDING",
    "UNDECIDED",
    "LabelPolicy",
    "ViewLabels",
    "label_view",
    "multi_hot",
    "pooled",
    "regions_by_class",
    "regions_of",
    "soft",
    "view_shares",
    "with_ignore",
]

PRESENT, ABSENT, UNDECIDED = 1, 0, -1
_CHOICES = {
    "unlocated": ("spread", "keep", "drop"),
    "original": ("as_others", "always", "if_located"),
    "empty": ("none", "original"),
}
ROUNDING = 1e-9  # a region that is wholly in view must reach a threshold of 1


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """Which classes count as present in a view.

    A class is where its regions are: those whose top-k names it with a score of at least `min_score` (or, if none reaches
    that, the one that comes closest). It is present if one of its regions reaches the upper visibility or the upper coverage;
    absent if all of its regions stay at or under both lower ones; undecided otherwise.

    Attributes:
        visibility: Upper threshold of visible area / region area. Half an object is mostly still recognised.
        coverage: Upper threshold of visible area / view area: a quarter of the view is what one looks at, even if it is a
            small part of a large object (a crop of a lawn is grass, though most of the lawn is outside).
        absent_visibility: Lower threshold of visibility.
        absent_coverage: Lower threshold of coverage.
        min_score: Score from which on a region's top-k class counts as seen there.
        unlocated: A class of the image that no region's top-k names. `spread`: it counts as spread evenly over the image, so
            its visibility is the visible share of the image and coverage does not save it; `keep`: present in every view;
            `drop`: never.
        original: The original label. `as_others`: like every class of the image; `always`: present in every view, as single-label
            training has it; `if_located`: only where a region's top-k names it.
        empty: A view in which no class is present. `none`: the target is all zeros; `original`: the original label.

    Raises:
        ValueError: If a threshold is out of range (upper ones and `min_score` in (0, 1], a lower one in [0, its upper one]), or a
            rule has another name.
    """

    visibility: float = 0.5
    coverage: float = 0.25
    absent_visibility: float = 0.1
    absent_coverage: float = 0.05
    min_score: float = 0.25
    unlocated: Literal["spread", "keep", "drop"] = "spread"
    original: Literal["as_others", "always", "if_located"] = "as_others"
    empty: Literal["none", "original"] = "none"

    def __post_init__(self) -> None:
        for name in ("visibility", "coverage", "min_score"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"LabelPolicy.{name} must be in (0, 1], got {getattr(self, name)}")
        for lower, upper in (("absent_visibility", "visibility"), ("absent_coverage", "coverage")):
            if not 0.0 <= getattr(self, lower) <= getattr(self, upper):
                raise ValueError(f"LabelPolicy.{lower} must be in [0, {upper}], got {getattr(self, lower)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"LabelPolicy.{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    def state(self, visibility: float, coverage: float) -> int:
        """Return whether a region with these shares is PRESENT, ABSENT or UNDECIDED."""
        if visibility >= self.visibility - ROUNDING or coverage >= self.coverage - ROUNDING:
            return PRESENT
        if visibility <= self.absent_visibility + ROUNDING and coverage <= self.absent_coverage + ROUNDING:
            return ABSENT
        return UNDECIDED


def view_shares(stacks: Sequence[MaskStack], view: View) -> dict[int, tuple[float, float]]:
    """Return (visibility, coverage) of each region in a view; see `mlimagenet_data.views.boxes.region_shares`.

    Args:
        stacks: The regions' masks.
        view: What the view shows. Where that is a box, rows and columns are summed apart; else cell by cell.
    """
    box, area = view.box, view.area
    out: dict[int, tuple[float, float]] = {}
    for stack in stacks:
        shown = _cells_in_box(stack, box) if box is not None else _cells_in_view(stack, view)
        view_cells = stack.grid[0] * stack.grid[1] * area
        for k, seen, total in zip(stack.regions, shown, stack.cells, strict=True):
            out[k] = (seen / total if total else 0.0, seen / view_cells if view_cells > 0 else 0.0)
    return out


def _cells_in_view(stack: MaskStack, view: View) -> list[float]:
    """Return the visible area, in cells, of each mask."""
    shown: list[float] = (stack.masks * view.cells(stack.grid)).sum(axis=(1, 2)).tolist()
    return shown


def _cells_in_box(stack: MaskStack, box: Box) -> list[float]:
    """Return the area, in cells, of each mask in a box of fractions. Exact, and without decoding the masks.

    Let S(p) be the part of the box's area that lies in the first p cells, column by column. A run of cells from p to q then has
    S(q) - S(p) of it, and S has a closed form: whole columns, and the rows of the column that p lies in.
    """
    height, width = stack.grid
    top, bottom = box.top * height, max(box.top, box.bottom) * height
    left, right = box.left * width, max(box.left, box.right) * width
    before = _clipped(cell_edges(width + 1), left, right)  # of each column: what of the box's width lies before it
    here = before[1:] - before[:-1]
    before *= bottom - top
    above = _clipped(cell_edges(height), top, bottom)
    columns, rows = stack.ends
    part = here.take(columns)
    part *= above.take(rows)
    part += before.take(columns)  # S at each run's end
    least = 1e-12 * (right - left) * (bottom - top)  # what is out of view leaves a rounding error
    shown: list[float] = np.add.reduceat(part[1::2] - part[::2], stack.pairs).tolist()
    return [seen if seen > least else 0.0 for seen in shown]


def _clipped(edges: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return edges clipped to [low, high] and counted from low."""
    out = np.minimum(np.maximum(edges, low), high)
    out -= low
    return out


class ViewLabels(NamedTuple):
    """The labels of one image in one view.

    Attributes:
        states: PRESENT, ABSENT or UNDECIDED for each class of the image, and for an original label added by a rule.
        where: For each located class of the image, its regions with its score there.
        region_states: The same for each region.
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
        view: What the view shows; None for the whole image.
    """
    if view is None:
        view = View.of(*(record.size or (1, 1)))
    if record.status == UNANNOTATED and record.label is not None:
        return ViewLabels({record.label: PRESENT}, {}, {}, {}, record)
    shares = view_shares(record.stacks, view)
    region_states = {k: policy.state(*share) for k, share in shares.items()}
    seen_in = regions_by_class(record, {index for index, _ in record.labels})
    states: dict[int, int] = {}
    located: dict[int, dict[int, float]] = {}
    for index, _ in record.labels:
        if index in seen_in:
            where = located[index] = regions_of(seen_in[index], policy.min_score)
            found = [region_states[k] for k in where]
            states[index] = PRESENT if PRESENT in found else UNDECIDED if UNDECIDED in found else ABSENT
        elif policy.unlocated == "spread":
            states[index] = policy.state(view.visible_area, 0.0)
        else:
            states[index] = PRESENT if policy.unlocated == "keep" else ABSENT
    _apply_original_rules(record, policy, states, located)
    return ViewLabels(states, located, region_states, shares, record)


def regions_by_class(record: Record, wanted: Container[int] | None = None) -> dict[int, dict[int, float]]:
    """Return for each class (or each wanted one) the regions whose top-k names it, with its score there."""
    out: dict[int, dict[int, float]] = {}
    position = 0
    for k, count in enumerate(record.topk_of):
        for place in range(position, position + count):
            index = record.topk_class[place]
            if wanted is None or index in wanted:
                out.setdefault(index, {})[k] = record.topk_score[place]
        position += count
    return out


def regions_of(scores: dict[int, float], min_score: float) -> dict[int, float]:
    """Return those of a class's regions that count: with a score of `min_score`, or else the best."""
    if len(scores) == 1:
        return scores
    least = min(min_score, max(scores.values()))
    return {k: score for k, score in scores.items() if score >= least}


def _apply_original_rules(
    record: Record, policy: LabelPolicy, states: dict[int, int], located: dict[int, dict[int, float]]
) -> None:
    original = record.label
    if original is None:
        return
    if policy.original == "if_located" and original not in located:
        states.pop(original, None)
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

    It is the best score among the class's regions that are present; else the image's for it; else 1 (an original label that only
    a rule made present).
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
    """Return (num_classes,) float32, a distribution: what the visible regions' top-k say, weighted by their visible area.

    Yun et al., "Re-labeling ImageNet" (ReLabel), arXiv 2101.05022, pools a label map over the crop; this pools the regions'
    predictions. A view that shows no region gives the original label, or zeros where there is none.
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
