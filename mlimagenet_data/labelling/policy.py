"""`LabelPolicy`: the rules that decide which classes a view shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlimagenet_data.annotations.records import Ranking

__all__ = ["ABSENT", "MAIN_SHARE", "PRESENT", "ROUNDING", "UNDECIDED", "LabelPolicy"]

PRESENT, ABSENT, UNDECIDED = 1, 0, -1
_CHOICES = {
    "unlocated": ("spread", "keep", "drop"),
    "original": ("unless_gone", "as_others", "always", "if_located"),
    "empty": ("none", "original"),
}
MAIN_SHARE = 0.5  # share of the best score that a region of the original label needs
ROUNDING = 1e-9  # a fully visible region must reach a threshold of 1


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """Rules that decide which classes count as present in a view.

    A class's regions are those whose top-k includes it with a score of at least `min_score` or, if none does, the one
    that scores it highest. The class is present if one of its regions reaches the upper visibility or the upper
    coverage threshold. It is absent if none of its regions exceeds either lower threshold. Otherwise it is undecided.

    Attributes:
        visibility: Upper threshold for visible area / region area. Half an object is usually still recognisable.
        coverage: Upper threshold for visible area / view area. A quarter of the view is prominent even if it is a small
            part of a large object: a crop of a lawn shows grass, though most of the lawn is outside.
        absent_visibility: Lower threshold for visibility.
        absent_coverage: Lower threshold for coverage.
        min_score: Lowest score at which a region's top-k class counts as located there; 0 takes every region.
        label_score: Lowest score of an image's label that counts; 0 takes all. The original label is exempt, unless
            `original` is `as_others`. Labels of the paper's form are soft and may score 0.0008; its authors count them from
            0.5 on.
        unlocated: Rule for a class of the image in no region's top-k. `spread`: treat it as spread evenly over the
            image; its visibility is the visible share of the image and its coverage is 0. `keep`: present in every
            view. `drop`: never present.
        original: Rule for the original label. `unless_gone`: present unless it is absent, so also where undecided; a
            human chose it, so only strong evidence takes it away. Its regions are only those that score it at least half
            as highly as the best one does: the photograph was taken for one object. `as_others`: like every other class of
            the image.
            `always`: present in every view, as in single-label training. `if_located`: like `as_others`, but never
            present if it is in no region's top-k.
        empty: Target of a view in which no class is present. `none`: all zeros. `original`: the original label.

    Raises:
        ValueError: If a rule is unknown or a threshold is out of range. Upper thresholds must be in (0, 1],
            `min_score` and `label_score` in [0, 1]; a lower threshold must be between 0 and its upper one.
    """

    visibility: float = 0.5
    coverage: float = 0.25
    absent_visibility: float = 0.01
    absent_coverage: float = 0.01
    min_score: float = 0.0
    label_score: float = 0.0
    unlocated: Literal["spread", "keep", "drop"] = "spread"
    original: Literal["unless_gone", "as_others", "always", "if_located"] = "unless_gone"
    empty: Literal["none", "original"] = "none"

    def __post_init__(self) -> None:
        for name in ("visibility", "coverage"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"LabelPolicy.{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("min_score", "label_score"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"LabelPolicy.{name} must be in [0, 1], got {getattr(self, name)}")
        for lower, upper in (("absent_visibility", "visibility"), ("absent_coverage", "coverage")):
            if not 0.0 <= getattr(self, lower) <= getattr(self, upper):
                raise ValueError(f"LabelPolicy.{lower} must be in [0, {upper}], got {getattr(self, lower)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"LabelPolicy.{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    def counted(self, labels: Ranking, original: int | None) -> Ranking:
        """Return those of an image's labels that count.

        Args:
            labels: (class, score) pairs.
            original: The original label.
        """
        if not self.label_score:
            return labels
        exempt = None if self.original == "as_others" else original
        return tuple(pair for pair in labels if pair[1] >= self.label_score or pair[0] == exempt)

    def least_score(self, index: int, original: int | None, best: float) -> float:
        """Return the least score at which a region counts for a class.

        Args:
            index: The class.
            original: The original label.
            best: The best score of a region for the class.
        """
        if index == original and self.original == "unless_gone":
            return max(MAIN_SHARE * best, min(self.min_score, best))
        return min(self.min_score, best)

    def state(self, visibility: float, coverage: float) -> int:
        """Return whether a region with these shares is PRESENT, ABSENT or UNDECIDED."""
        if visibility >= self.visibility - ROUNDING or coverage >= self.coverage - ROUNDING:
            return PRESENT
        if visibility <= self.absent_visibility + ROUNDING and coverage <= self.absent_coverage + ROUNDING:
            return ABSENT
        return UNDECIDED
