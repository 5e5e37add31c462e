"""Which classes a view shows: `LabelPolicy` and its rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ABSENT", "PRESENT", "ROUNDING", "UNDECIDED", "LabelPolicy"]

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
