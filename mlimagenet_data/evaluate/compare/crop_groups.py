"""Figures of random crops, of one or two datasets, beside a loader that keeps labels whatever the crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.evaluate.compare.bootstrap import Group, Measure
from mlimagenet_data.evaluate.compare.crops import (
    ImageCrops,
    box_crop_counts,
    box_crop_measure,
    box_states,
    crop_targets,
    draw_crops,
    mask_crop_counts,
    mask_crop_measure,
    mask_states,
    whole_targets,
)
from mlimagenet_data.evaluate.compare.matching import Matched
from mlimagenet_data.evaluate.sets.truth import MaskTruth, Truth
from mlimagenet_data.labelling.policy import LabelPolicy

__all__ = ["box_crop_group", "mask_crop_group"]


def box_crop_group(
    truth: Truth, datasets: Sequence[Matched], originals: Sequence[int | None], number: int, seed: int,
    policy: LabelPolicy | None = None, advance: Callable[[int], object] = lambda count: None,
) -> Group:  # fmt: skip
    """Return the crops' figures against boxes, beside a plain loader, which always names the original class.

    Covers images with boxes that the first dataset has, if their original class is valid or has not been judged.

    Args:
        truth: What people say, with boxes.
        datasets: One or two datasets.
        originals: The images' original classes.
        number: Number of crops per image.
        seed: Seed of the crops.
        policy: The loader's policy; None for its default.
        advance: Called with 1 per image.
    """
    assert truth.boxes is not None
    counts = np.zeros((len(datasets) + 1, len(truth), 5))
    images = [k for k in datasets[0].croppable() if len(truth.boxes[k]) and _is_usable(truth, k, originals[k])]
    for crops in draw_crops(datasets[0], images, number, seed):
        k = crops.image
        states, always = box_states(truth.boxes[k], crops), np.ones(number, np.bool_)
        for table, targets in zip(counts, _targets(datasets, crops, policy), strict=False):
            table[k] = box_crop_counts(states, targets[:, originals[k]], np.asarray(~targets.any(axis=1)))
        counts[-1, k] = box_crop_counts(states, always, ~always)
        advance(1)
    return _group([box_crop_measure(table) for table in counts], "single label")


def _is_usable(truth: Truth, image: int, original: int | None) -> bool:
    return original is not None and (not truth.has_labels or original in truth.examples[image].valid)


def mask_crop_group(
    truth: MaskTruth, datasets: Sequence[Matched], number: int, seed: int, policy: LabelPolicy | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> Group:  # fmt: skip
    """Return the crops' figures against masks, beside the target of the whole image, whatever the crop.

    Covers the images that the first dataset has.

    Args:
        truth: The masks.
        datasets: One or two datasets.
        number: Number of crops per image.
        seed: Seed of the crops.
        policy: The loader's policy; None for its default.
        advance: Called with 1 per image.
    """
    counts = np.zeros((len(datasets) + 1, len(truth.images), 3))
    for crops in draw_crops(datasets[0], datasets[0].croppable(), number, seed):
        k = crops.image
        states = mask_states(truth, truth.images[k], crops)
        for table, targets in zip(counts, _targets(datasets, crops, policy), strict=False):
            table[k] = mask_crop_counts(truth, states, targets)
        counts[-1, k] = mask_crop_counts(truth, states, whole_targets(datasets[0].record(k), crops, policy))
        advance(1)
    return _group([mask_crop_measure(table) for table in counts], "whole image")


def _targets(datasets: Sequence[Matched], crops: ImageCrops, policy: LabelPolicy | None) -> Iterator[NDArray[np.bool_]]:
    return (crop_targets(matched.record(crops.image), crops, policy) for matched in datasets)


def _group(measures: Sequence[Measure], baseline: str) -> Group:
    """Return a group of the measures of the first dataset, the second if there is one, and the baseline."""
    return Group("crops", measures[0], measures[-1], measures[1] if len(measures) > 2 else None, baseline)
