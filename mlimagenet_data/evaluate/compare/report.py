"""Comparison of a dataset, and optionally another one, with a truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.compare.bootstrap import Estimate, Figure, Group, Measure, figures_of
from mlimagenet_data.evaluate.compare.boxes import box_measure
from mlimagenet_data.evaluate.compare.crop_groups import box_crop_group, mask_crop_group
from mlimagenet_data.evaluate.compare.label_sets import label_measure, read_labels, single_labels
from mlimagenet_data.evaluate.compare.masks import mask_label_measure, mask_region_measure
from mlimagenet_data.evaluate.compare.matching import Matched, Side, match, originals_of, sides_of
from mlimagenet_data.evaluate.compare.scores import reliability, score_measure
from mlimagenet_data.evaluate.metrics.calibration import Calibration
from mlimagenet_data.evaluate.sets.truth import Truth
from mlimagenet_data.labelling.policy import LabelPolicy

__all__ = ["Comparison", "GroupFigures", "compare"]


class GroupFigures(NamedTuple):
    """The figures of a group.

    Attributes:
        baseline: Name of what the dataset is compared with.
        figures: By name.
    """

    baseline: str
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Comparison:
    """Figures of a dataset against a truth.

    Attributes:
        truth: Name of the truth.
        images: Number of judged images; all figures are over them.
        skipped: Number of other images of the truth, by reason.
        missing: Number of judged images that the dataset lacks; they count as images without labels and regions.
        other_missing: The same for the other dataset, None without one.
        draws: Number of bootstrap draws.
        groups: `labels`, `scores`, `regions` and `crops`, as far as the truth allows.
        reliability: Calibration of the labels' scores, by kind of label; empty without label sets.
    """

    truth: str
    images: int
    skipped: dict[str, int]
    missing: int
    other_missing: int | None
    draws: int
    groups: dict[str, GroupFigures]
    reliability: dict[str, Calibration]

    def as_dict(self) -> dict[str, Any]:
        """Return all values in JSON types, None for NaN."""
        groups = {
            name: {"baseline": group.baseline, **{key: _plain_figure(figure) for key, figure in group.figures.items()}}
            for name, group in self.groups.items()
        }
        facts = {
            name: getattr(self, name) for name in ("truth", "images", "skipped", "missing", "other_missing", "draws")
        }
        curves = {kind: _plain_calibration(found) for kind, found in self.reliability.items()}
        return {**facts, "groups": groups, "reliability": curves}


def compare(
    truth: Truth, store: AnnotationStore, other: AnnotationStore | None = None, *, crops: int = 20, draws: int = 2000,
    seed: int = 0, policy: LabelPolicy | None = None, advance: Callable[[int], object] = lambda count: None,
) -> Comparison:  # fmt: skip
    """Compare a dataset with a truth.

    Args:
        truth: What people say.
        store: The dataset.
        other: Another dataset, to compare with on the same draws and crops.
        crops: Number of random crops per image; 0 leaves their figures out.
        draws: Number of bootstrap draws; 0 leaves the intervals undefined.
        seed: Seed of the draws and the crops.
        policy: The loader's policy for the crops; None for its default.
        advance: Called with 1 per image that gets crops, then with the number of draws since the last call; the images
            themselves count as one.

    Raises:
        EvaluationError: If a dataset has none of the images, or a number is negative.
    """
    if crops < 0 or draws < 0:
        raise EvaluationError(f"crops {crops}, draws {draws}: neither may be negative")
    datasets = [match(one, truth) for one in (store, other) if one is not None]
    originals = originals_of(truth, datasets[0])
    sides = [sides_of(matched) for matched in datasets]
    groups = _label_groups(truth, sides, originals) if truth.has_labels else []
    if truth.boxes is not None:
        measures = [box_measure(truth.boxes, matched.records(), originals) for matched in datasets]
        groups.append(Group("regions", measures[0], None, _second(measures)))
    if truth.masks is not None:
        groups += _mask_groups(truth, datasets, sides, originals)
    if crops and truth.boxes is not None:
        groups.append(box_crop_group(truth, datasets, originals, crops, seed, policy, advance))
    if crops and truth.masks is not None:
        groups.append(mask_crop_group(truth.masks, datasets, crops, seed, policy, advance))
    figures = figures_of(groups, len(truth), draws, seed, advance)
    curves = reliability(read_labels(truth, sides[0], originals)) if truth.has_labels else {}
    return Comparison(
        truth.name, len(truth), truth.skipped, datasets[0].missing, datasets[1].missing if other is not None else None,
        draws, {group.name: GroupFigures(group.baseline_name, figures[group.name]) for group in groups}, curves,
    )  # fmt: skip


def _label_groups(truth: Truth, sides: Sequence[Sequence[Side | None]], originals: Sequence[int | None]) -> list[Group]:
    readings = [read_labels(truth, side, originals) for side in (*sides, single_labels(originals))]
    out = []
    for name, make in (("labels", label_measure), ("scores", score_measure)):
        dataset, *others, single = (make(reading) for reading in readings)
        out.append(Group(name, dataset, single, others[0] if others else None))
    return out


def _mask_groups(
    truth: Truth, datasets: Sequence[Matched], sides: Sequence[Sequence[Side | None]], originals: Sequence[int | None]
) -> list[Group]:
    assert truth.masks is not None
    labels = [mask_label_measure(truth.masks, side) for side in sides]
    has_originals = all(original is not None for original in originals)
    single = mask_label_measure(truth.masks, single_labels(originals)) if has_originals else None
    regions = [mask_region_measure(truth.masks, matched.records()) for matched in datasets]
    return [Group("labels", labels[0], single, _second(labels)), Group("regions", regions[0], None, _second(regions))]


def _second(measures: Sequence[Measure]) -> Measure | None:
    return measures[1] if len(measures) > 1 else None


def _plain_figure(figure: Figure) -> dict[str, Any]:
    return {name: _plain_estimate(found) for name, found in figure._asdict().items() if found is not None}


def _plain_estimate(found: Estimate) -> list[float | None]:
    """Return value, low, high."""
    return [None if math.isnan(value) else value for value in found]


def _plain_calibration(found: Calibration) -> dict[str, Any]:
    columns = {name: np.asarray(getattr(found, name)).tolist() for name in ("counts", "confidence", "accuracy")}
    return {name: [None if math.isnan(value) else value for value in column] for name, column in columns.items()}
