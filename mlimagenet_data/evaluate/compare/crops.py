"""Targets of random crops against boxes or masks: does the loader name what a crop still shows?

The truth decides a crop by the rule that half of an object, or a quarter of the view, is enough to see it. A class is
there if half of one of its objects is in view or one fills a quarter of the view. It is gone if at most a tenth of each
is in view and fills at most a twentieth. Otherwise, the crop is undecided for that class and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import RandomResizedCrop

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.evaluate.compare.bootstrap import Array, Measure, additive, share
from mlimagenet_data.evaluate.compare.matching import Matched
from mlimagenet_data.evaluate.sets.truth import MaskImage, MaskTruth
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.sample import SampleBuilder

__all__ = [
    "GONE", "THERE", "UNSURE", "ImageCrops", "box_crop_counts", "box_crop_measure", "box_states", "crop_targets",
    "draw_crops", "mask_crop_counts", "mask_crop_measure", "mask_states", "whole_targets",
]  # fmt: skip

GONE, UNSURE, THERE = 0, 1, 2
_SCALE, _RATIO = [0.08, 1.0], [3 / 4, 4 / 3]  # the defaults of RandomResizedCrop
States = NDArray[np.int8]


class ImageCrops(NamedTuple):
    """Crops of one image.

    Attributes:
        image: Its position in the truth.
        size: (height, width) of the image.
        boxes: (n, 4), top, left, height and width in pixels.
    """

    image: int
    size: tuple[int, int]
    boxes: NDArray[np.int64]


def draw_crops(matched: Matched, images: Sequence[int], number: int, seed: int) -> list[ImageCrops]:
    """Draw crops as torchvision's RandomResizedCrop does; torch's own generator is left as it was.

    Args:
        matched: The dataset, whose image sizes count.
        images: Images that have a size, in the order in which to draw.
        number: Number of crops per image.
        seed: Seed of torch's generator.
    """
    out = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for image in images:
            record = matched.record(image)
            assert record is not None
            assert record.size is not None
            canvas = torch.empty(1).expand(1, *record.size)
            draws = [RandomResizedCrop.get_params(canvas, _SCALE, _RATIO) for _ in range(number)]
            out.append(ImageCrops(image, record.size, np.array(draws, np.int64).reshape(-1, 4)))
    return out


def crop_targets(record: Record | None, crops: ImageCrops, policy: LabelPolicy | None = None) -> NDArray[np.bool_]:
    """Return the classes in the loader's target of each crop: (n, 1000) bool; none without annotations.

    Boxes are scaled if the record has another image size.

    Args:
        record: The image's annotations.
        crops: The crops.
        policy: Which classes count as present; None for the loader's default.
    """
    out = np.zeros((len(crops.boxes), NUM_CLASSES), np.bool_)
    if record is None or record.size is None:
        return out
    builder = SampleBuilder(None, policy or LabelPolicy(), "multi_hot", "error")
    scale = np.tile(np.divide(record.size, crops.size), 2)
    for target, (top, left, height, width) in zip(out, (crops.boxes * scale).tolist(), strict=True):
        target[:] = np.asarray(builder.make_target_of_box(record, (top, left, height, width))) > 0
    return out


def whole_targets(record: Record | None, crops: ImageCrops, policy: LabelPolicy | None = None) -> NDArray[np.bool_]:
    """Return the classes in the target of the whole image, for each crop: (n, 1000) bool."""
    whole = crops._replace(boxes=np.array([[0, 0, *crops.size]], np.int64))
    return np.repeat(crop_targets(record, whole, policy), len(crops.boxes), axis=0)


def box_states(boxes: Array, crops: ImageCrops) -> States:
    """Return whether the object in the boxes is THERE, GONE or UNSURE in each crop: (n,).

    Args:
        boxes: (B, 4), x0, y0, x1, y1 as shares; at least one.
        crops: The crops.
    """
    height, width = crops.size
    top, left, tall, wide = crops.boxes.T
    views = np.stack([left / width, top / height, (left + wide) / width, (top + tall) / height], axis=1)
    one, other = views[:, None], boxes[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    seen = np.maximum(sides, 0).prod(axis=2)
    visibility = seen / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    states = _states(visibility, seen / (views[:, 2:] - views[:, :2]).prod(axis=1)[:, None])
    return np.asarray(states.max(axis=1))


def mask_states(truth: MaskTruth, image: MaskImage, crops: ImageCrops) -> States:
    """Return whether each named class is THERE, GONE or UNSURE in each crop: (n, C)."""
    scale = np.tile(np.divide(image.size, crops.size), 2)
    boxes = crops.boxes * scale
    rows, columns = (_overlaps(boxes[:, k], boxes[:, k + 2], image.size[k]) for k in (0, 1))
    out = np.full((len(boxes), len(truth.names)), GONE, np.int8)
    for item in image.objects:
        if item.column >= 0 and not item.is_crowd:
            mask = image.mask(item)
            seen = ((rows @ mask) * columns).sum(axis=1)
            states = _states(seen / max(np.count_nonzero(mask), 1), seen / boxes[:, 2:].prod(axis=1))
            out[:, item.column] = np.maximum(out[:, item.column], states)
    return out


def _overlaps(start: Array, length: Array, pixels: int) -> Array:
    """Return the share of each pixel row (or column) that lies in each crop: (n, pixels)."""
    edges = np.clip(np.arange(pixels + 1.0), start[:, None], (start + length)[:, None])
    return np.diff(edges, axis=1)


def _states(visibility: Array, coverage: Array) -> States:
    is_there = (visibility >= 0.5) | (coverage >= 0.25)
    is_gone = (visibility <= 0.1) & (coverage <= 0.05)
    return np.where(is_there, THERE, np.where(is_gone, GONE, UNSURE)).astype(np.int8)


def box_crop_counts(states: States, named: NDArray[np.bool_], empty: NDArray[np.bool_]) -> list[int]:
    """Return an image's counts.

    Args:
        states: (n,), the original class in each crop.
        named: (n,), whether the target names it.
        empty: (n,), whether the target names nothing.
    """
    gone, there = states == GONE, states == THERE
    return [int(c.sum()) for c in (gone, gone & ~named, there, there & named, there & empty)]


def box_crop_measure(counts: Array) -> Measure:
    """Return the measure of crops against boxes of the original class.

    Figures: `gone_told`, of the crops without the object, the share whose target does not name it; `there_kept`, of those
    with it, the share whose target does; `balanced`, the mean of both; `empty`, of the crops with it, the share whose
    target is all zeros; `wrong`, of all decided crops, the share told wrongly; `crops`, the number of decided crops.

    Args:
        counts: (N, 5), see `box_crop_counts`.
    """

    def figures(sums: Array) -> dict[str, Array]:
        gone, told, there, kept, empty = sums.T
        shares = share(told, gone), share(kept, there)
        return {
            "wrong": share(gone - told + there - kept, gone + there),
            "there_kept": shares[1],
            "gone_told": shares[0],
            "balanced": (shares[0] + shares[1]) / 2,
            "empty": share(empty, there),
            "crops": gone + there,
        }

    return additive(counts, figures)


def mask_crop_counts(truth: MaskTruth, states: States, targets: NDArray[np.bool_]) -> list[int]:
    """Return an image's counts: right, named and shown classes over its crops.

    Args:
        truth: The named classes.
        states: (n, C), see `mask_states`.
        targets: (n, 1000) bool.
    """
    named = ((targets.astype(np.float32) @ truth.of_class) > 0) & (states != UNSURE)
    there = states == THERE
    return [int((named & there).sum()), int(named.sum()), int(there.sum())]


def mask_crop_measure(counts: Array) -> Measure:
    """Return the measure of crops against masks: micro `f1`, `precision` and `recall` of the named classes.

    Args:
        counts: (N, 3), see `mask_crop_counts`.
    """

    def figures(sums: Array) -> dict[str, Array]:
        right, named, there = sums.T
        return {
            "f1": share(2 * right, named + there),
            "precision": share(right, named),
            "recall": share(right, there),
        }

    return additive(counts, figures)
