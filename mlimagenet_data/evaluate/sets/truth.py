"""Truth: what people say about a set of images, as label sets, boxes of the original class, or masks of objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.masks import decode_mask, stretch_mask
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.arrays import Mask
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example
from mlimagenet_data.names import image_id_of, join_key

__all__ = ["MaskImage", "MaskTruth", "MaskedObject", "Truth", "truth_of_set", "unique_ids"]


class MaskedObject(NamedTuple):
    """One annotated object.

    Attributes:
        column: Position of its class among the counted ones, -1 if it has no counterpart in ImageNet.
        is_crowd: Whether the mask covers a group of objects; it then tells only that the class is there.
        area: Share of the image.
        size: (height, width) of the mask.
        counts: Compressed COCO RLE of the mask.
    """

    column: int
    is_crowd: bool
    area: float
    size: tuple[int, int]
    counts: str


class MaskImage(NamedTuple):
    """One image with masks.

    Attributes:
        size: (height, width) in pixels.
        objects: Its annotated objects.
    """

    size: tuple[int, int]
    objects: tuple[MaskedObject, ...]

    def mask(self, item: MaskedObject) -> NDArray[np.bool_]:
        """Return an object's mask in the image's size: (height, width) bool."""
        return stretch_mask(decode_mask(item.size, item.counts), *self.size)

    def shown(self) -> list[int]:
        """Return the columns of the counted classes in the image, ascending."""
        return sorted({item.column for item in self.objects if item.column >= 0})


@dataclass(frozen=True)
class MaskTruth:
    """Masks of all images, and which ImageNet classes name the objects.

    Attributes:
        names: C class names that are counted, sorted.
        of_class: (1000, C) bool, whether an ImageNet class is (a kind of) the named class.
        images: The images, in the truth's order.
    """

    names: tuple[str, ...]
    of_class: NDArray[np.bool_]
    images: tuple[MaskImage, ...]


@dataclass(frozen=True)
class Truth:
    """N judged images, in a fixed order, and what people say about them.

    Attributes:
        name: Name in reports.
        source: The file or folder that was read.
        ids: The images' ids; no two share a `mlimagenet_data.names.join_key`.
        examples: Original, valid and unclear classes. Without label sets, only `original` counts.
        judged: (1000,) bool, classes that annotators looked for; all others are undecided in every image.
        skipped: Number of images left out, by reason.
        has_labels: Whether the examples have label sets.
        boxes: For each image, the boxes of its original class: (B, 4) float64, x0, y0, x1, y1 as shares of width and
            height. None without boxes.
        masks: Masks of objects, None without.
    """

    name: str
    source: Path
    ids: tuple[str, ...]
    examples: tuple[Example, ...]
    judged: Mask
    skipped: dict[str, int]
    has_labels: bool = True
    boxes: tuple[NDArray[np.float64], ...] | None = None
    masks: MaskTruth | None = None

    def __len__(self) -> int:
        return len(self.ids)


def truth_of_set(data: EvaluationSet, source: Path) -> Truth:
    """Return the label sets of an evaluation set, without the images that it skips.

    Raises:
        EvaluationError: If every image is skipped, or two files are the same photograph.
    """
    examples = tuple(example for example in data.examples if not example.skipped)
    skipped = dict(Counter(example.skipped for example in data.examples if example.skipped))
    ids = unique_ids((image_id_of(example.file, example.original) for example in examples), source)
    return Truth(data.name, source, ids, examples, data.judged, skipped)


def unique_ids(ids: Iterable[str], source: Path) -> tuple[str, ...]:
    """Return image ids unchanged if there are any and no two name the same photograph.

    Raises:
        EvaluationError: If there are none, or two have the same join key; the message names both.
    """
    seen: dict[str, str] = {}
    for image_id in ids:
        key = join_key(image_id)
        if key in seen:
            raise EvaluationError(f"{source}: {image_id[:200]}: the same photograph as {seen[key][:200]}; remove one")
        seen[key] = image_id
    if not seen:
        raise EvaluationError(f"{source}: no image was judged, so there is nothing to compare with")
    return tuple(seen.values())
