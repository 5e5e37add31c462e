"""From what a view shows of each region to the view's labels. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.geometry import Box, region_shares
from mlimagenet_data.store import Record

__all__ = ["ABSENT", "PRESENT", "UNDECIDED", "WHOLE_IMAGE", "LabelPolicy", "class_states", "multi_hot"]

PRESENT, ABSENT, UNDECIDED = 1, 0, -1
WHOLE_IMAGE = Box(0.0, 0.0, 1.0, 1.0)


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
        min_score: Score from which on a region's top-k class counts as seen there; the build's `--label-threshold`.
        unlocated: A class of the image that no region's top-k names. `spread`: it counts as spread evenly over the image, so
            its visibility is the visible share of the image and coverage does not save it; `keep`: present in every view;
            `drop`: never.
        empty: A view in which no class is present. `none`: the target is all zeros; `original`: the original label.
    """

    visibility: float = 0.5
    coverage: float = 0.25
    absent_visibility: float = 0.1
    absent_coverage: float = 0.05
    min_score: float = 0.25
    unlocated: Literal["spread", "keep", "drop"] = "spread"
    empty: Literal["none", "original"] = "none"

    def __post_init__(self) -> None:
        for name in ("visibility", "coverage", "min_score"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"LabelPolicy.{name} must be in (0, 1], got {getattr(self, name)}")
        for lower, upper in (("absent_visibility", "visibility"), ("absent_coverage", "coverage")):
            if not 0.0 <= getattr(self, lower) <= getattr(self, upper):
                raise ValueError(f"LabelPolicy.{lower} must be in [0, {upper}], got {getattr(self, lower)}")
        if self.unlocated not in ("spread", "keep", "drop"):
            raise ValueError(f"LabelPolicy.unlocated must be 'spread', 'keep' or 'drop', got {self.unlocated!r}")
        if self.empty not in ("none", "original"):
            raise ValueError(f"LabelPolicy.empty must be 'none' or 'original', got {self.empty!r}")

    def state(self, visibility: float, coverage: float) -> int:
        """Return whether a region with these shares is PRESENT, ABSENT or UNDECIDED."""
        if visibility >= self.visibility or coverage >= self.coverage:
            return PRESENT
        if visibility <= self.absent_visibility and coverage <= self.absent_coverage:
            return ABSENT
        return UNDECIDED


def class_states(
    record: Record, policy: LabelPolicy, *, visible: Box = WHOLE_IMAGE, view_area: float = 1.0
) -> dict[int, int]:
    """Return PRESENT, ABSENT or UNDECIDED for each class of an image, in a view of it.

    Args:
        record: The image's annotations.
        policy: The thresholds and rules.
        visible: What the view shows, as fractions of the image.
        view_area: The view's area with padding, as a share of the image's.
    """
    region_states = [policy.state(*region_shares(r.mask, visible, view_area)) for r in record.regions]
    states: dict[int, int] = {}
    for index, _ in record.labels:
        where = _regions_of(record, index, policy.min_score)
        if where:
            found = {region_states[k] for k in where}
            states[index] = PRESENT if PRESENT in found else UNDECIDED if UNDECIDED in found else ABSENT
        elif policy.unlocated == "spread":
            states[index] = policy.state(visible.area, 0.0)
        else:
            states[index] = PRESENT if policy.unlocated == "keep" else ABSENT
    if policy.empty == "original" and record.label is not None and PRESENT not in states.values():
        states[record.label] = PRESENT
    return states


def _regions_of(record: Record, index: int, min_score: float) -> list[int]:
    scores = {k: s for k, region in enumerate(record.regions) for c, s in region.topk if c == index}
    least = min(min_score, max(scores.values(), default=0.0))
    return [k for k, score in scores.items() if score >= least]


def multi_hot(states: dict[int, int], num_classes: int = NUM_CLASSES) -> NDArray[np.float32]:
    """Return (num_classes,) float32: 1 for classes that are PRESENT, else 0."""
    target = np.zeros(num_classes, np.float32)
    target[[index for index, state in states.items() if state == PRESENT]] = 1.0
    return target
