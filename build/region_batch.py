"""Conversion of a batch's regions into one record per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from build.images.clicks import Click
from build.images.listing import ImageInput
from build.networks.forward import Decoded
from build.records import RegionsRow
from mlimagenet_data.annotations.masks import encode_mask

__all__ = ["RegionBatch", "clicked_regions", "make_rows"]

_WHOLE_CLASSES = 20  # kept of the whole image


class RegionBatch(NamedTuple):
    """The regions of B images, on the CPU: R per image, some of them empty.

    Attributes:
        masks: (B, R, h, w) bool.
        kept: (B, R) bool.
        alignment: (B, R) float32; meaningless without an original label, NaN without a label map.
        likely: (B, R, C) int64, the region's likeliest classes in the label map, best first.
        likeliest: (B, R) float32, the probability of the first of these; NaN without a label map.
        elsewhere: (B, R, C) bool, which of these have their evidence elsewhere in the image.
        features: (B, R + 1, D) float16, the whole image last; (B, R + 1, S, D) for S patches of each.
        variants: (B, R, V, D) or (B, R, V, S, D) float16, features with patches dropped.
        passes: (B,) int64, products that the eigensolver needed.
        exact: (B,) int64, cuts for which it fell back to the dense solver.
        class_scores: (B, R + 1, C) float32, the best classes' probabilities, if locations are classified first.
        classes: (B, R + 1, C) int64, these classes.
        objects: How many of the regions, the first ones, were grown from the original label's own evidence.
        whole: (B, K) float32, the probabilities of the whole image, if the images have an original label.
        places: (B, K) float16, its probability of each class in its best place, if they have none.
    """

    masks: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    alignment: NDArray[np.float32]
    likely: NDArray[np.int64]
    likeliest: NDArray[np.float32]
    elsewhere: NDArray[np.bool_]
    features: NDArray[np.float16]
    variants: NDArray[np.float16]
    passes: NDArray[np.int64]
    exact: NDArray[np.int64]
    class_scores: NDArray[np.float32] | None = None
    classes: NDArray[np.int64] | None = None
    whole: NDArray[np.float32] | None = None
    places: NDArray[np.float16] | None = None
    objects: int = 0


def make_rows(images: Sequence[ImageInput], decoded: Sequence[Decoded], found: RegionBatch | None) -> list[RegionsRow]:
    """Return the records of a batch.

    Args:
        images: The images.
        decoded: The result of reading each image.
        found: The regions of the readable images, in their order; None if there are none.
    """
    rows, k = [], 0
    for image, one in zip(images, decoded, strict=True):
        height, width = one.size or (None, None)
        row = RegionsRow(
            image_id=image.image_id, file_name=image.file_name, label=image.label, height=height, width=width,
            status=one.status, reason=one.reason, content=one.content,
        )  # fmt: skip
        if one.tensors and found is not None:
            _add_regions(row, found, k, one)
            k += 1
        rows.append(row)
    return rows


def _add_regions(row: RegionsRow, found: RegionBatch, k: int, decoded: Decoded) -> None:
    kept = np.flatnonzero(found.kept[k])
    masks, alignment = found.masks[k, kept], found.alignment[k, kept]
    row.status = "ok" if len(masks) else "no_regions"
    row.grid = list(masks.shape[1:])
    row.counts = [encode_mask(mask) for mask in masks]
    row.bbox = [_bbox(mask) for mask in masks]
    row.of_original = [bool(index < found.objects) for index in kept]
    row.area = [float(mask.mean()) for mask in masks]
    row.alignment = [None if row.label is None or np.isnan(value) else float(value) for value in alignment]
    likeliest = found.likeliest[k, kept]
    row.map_scores = [None if np.isnan(value) else float(value) for value in likeliest]
    first = found.likely[k, kept, 0].tolist()
    row.map_classes = [None if score is None else c for c, score in zip(first, row.map_scores, strict=True)]
    row.clicked = _clicked(masks, alignment, decoded)
    pairs = zip(found.likely[k, kept], found.elsewhere[k, kept], strict=True)
    row.elsewhere = [classes[other].tolist() for classes, other in pairs]
    row.features = found.features[k, [*kept, -1]].astype("<f2").tobytes()
    row.variants = found.variants[k, kept].astype("<f2").tobytes()
    row.classes = None if found.classes is None else found.classes[k, [*kept, -1]].tolist()
    if found.whole is not None:
        _add_whole(row, found.whole[k])
    row.places = None if found.places is None else found.places[k].astype("<f2").tobytes()
    row.class_scores = None if found.class_scores is None else found.class_scores[k, [*kept, -1]].tolist()


def _add_whole(row: RegionsRow, probabilities: NDArray[np.float32]) -> None:
    """Keep the best classes of the whole image, and the original one."""
    best = np.argsort(-probabilities, kind="stable")[:_WHOLE_CLASSES].tolist()
    if row.label not in best:
        best.append(row.label)
    row.whole_classes, row.whole_scores = best, probabilities[best].tolist()


def _clicked(masks: NDArray[np.bool_], alignment: NDArray[np.float32], decoded: Decoded) -> list[bool | None]:
    if decoded.byproduct_status is None:
        return [None] * len(masks)
    return list(clicked_regions(masks, alignment, decoded.clicks).tolist())


def clicked_regions(
    masks: NDArray[np.bool_], alignment: NDArray[np.float32], clicks: Sequence[Click]
) -> NDArray[np.bool_]:
    """Return which of (R, h, w) masks were clicked: for each click, the best-aligned region under it.

    Without a label map (alignment NaN), it is the smallest region.
    """
    out = np.zeros(len(masks), bool)
    height, width = masks.shape[1:]
    for x, y in clicks:
        under = np.flatnonzero(masks[:, min(int(y * height), height - 1), min(int(x * width), width - 1)])
        if len(under):
            order = np.lexsort((masks[under].mean(axis=(1, 2)), -np.nan_to_num(alignment[under], nan=0.0)))
            out[under[order[0]]] = True
    return out


def _bbox(mask: NDArray[np.bool_]) -> list[float]:
    """Return [x, y, width, height] of a mask, as shares of the image's width and height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    top, left = rows[0] / height, columns[0] / width
    return [float(left), float(top), float((columns[-1] + 1) / width - left), float((rows[-1] + 1) / height - top)]
