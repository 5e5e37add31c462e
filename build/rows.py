"""The rows of the regions stage: what is kept of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from build.images.clicks import Click
from build.images.listing import ImageInput
from build.networks.forward import Decoded
from mlimagenet_data.annotations.masks import encode_mask

__all__ = ["SCHEMA", "RegionBatch", "clicked_regions", "make_rows"]

SCHEMA = pa.schema([
    ("image_id", pa.string()),
    ("file_name", pa.string()),
    ("label", pa.int64()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("grid", pa.list_(pa.int32())),  # (gh, gw) of the masks
    ("counts", pa.list_(pa.string())),
    ("bbox", pa.list_(pa.list_(pa.float32()))),
    ("area", pa.list_(pa.float32())),
    ("alignment", pa.list_(pa.float32())),  # null without an original label
    ("clicked", pa.list_(pa.bool_())),  # by an annotator; null without byproducts
    ("elsewhere", pa.list_(pa.list_(pa.int16()))),  # of the region's best classes those whose evidence lies elsewhere
    ("features", pa.binary()),  # (R + 1, D) little-endian float16, the whole image last
    ("variants", pa.binary()),  # (R, V, D), likewise, the regions' features with patches dropped
    ("classes", pa.list_(pa.list_(pa.int16()))),  # classified first: the best ones of each region and, last, the whole image
    ("class_scores", pa.list_(pa.list_(pa.float32()))),
])  # fmt: skip


class RegionBatch(NamedTuple):
    """What is kept of B images, on the CPU; R regions each, of which some are empty.

    Attributes:
        masks: (B, R, h, w) bool.
        kept: (B, R) bool.
        alignment: (B, R) float32; meaningless without an original label, NaN without a label map.
        likely: (B, R, C) int64, the classes that the label map gives most in the region.
        elsewhere: (B, R, C) bool, which of these are seen elsewhere rather than there.
        features: (B, R + 1, D) float16, the whole image last.
        variants: (B, R, V, D) float16, with patches dropped.
        passes: (B,) int64, products that the eigen solver took.
        exact: (B,) int64, cuts for which it fell back to the dense solver.
        class_scores: (B, R + 1, C) float32, the best classes' probabilities where places are classified first.
        classes: (B, R + 1, C) int64, these classes.
    """

    masks: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    alignment: NDArray[np.float32]
    likely: NDArray[np.int64]
    elsewhere: NDArray[np.bool_]
    features: NDArray[np.float16]
    variants: NDArray[np.float16]
    passes: NDArray[np.int64]
    exact: NDArray[np.int64]
    class_scores: NDArray[np.float32] | None = None
    classes: NDArray[np.int64] | None = None


def make_rows(
    images: Sequence[ImageInput], decoded: Sequence[Decoded], found: RegionBatch | None
) -> list[dict[str, Any]]:
    """Return the rows of a batch.

    Args:
        images: The images.
        decoded: What came of reading each.
        found: What was found in those that could be read, in their order; None if none could.
    """
    rows, k = [], 0
    for image, d in zip(images, decoded, strict=True):
        seen: dict[str, Any] = {}
        if d.tensors and found is not None:
            seen, k = _regions(found, k, image.label, d), k + 1
        rows.append(_row(image, d, seen))
    return rows


def _regions(found: RegionBatch, k: int, label: int | None, decoded: Decoded) -> dict[str, Any]:
    kept = np.flatnonzero(found.kept[k])
    masks = found.masks[k, kept]
    alignment = found.alignment[k, kept]
    return {
        "status": "ok" if len(masks) else "no_regions",
        "grid": list(masks.shape[1:]),
        "counts": [encode_mask(mask) for mask in masks],
        "bbox": [_bbox(mask) for mask in masks],
        "area": [float(mask.mean()) for mask in masks],
        "alignment": [None if label is None or np.isnan(value) else float(value) for value in alignment],
        "clicked": _clicked(masks, alignment, decoded),
        "elsewhere": [
            classes[other].tolist()
            for classes, other in zip(found.likely[k, kept], found.elsewhere[k, kept], strict=True)
        ],
        "features": found.features[k, [*kept, -1]].astype("<f2").tobytes(),
        "variants": found.variants[k, kept].astype("<f2").tobytes(),
        "classes": None if found.classes is None else found.classes[k, [*kept, -1]].tolist(),
        "class_scores": None if found.class_scores is None else found.class_scores[k, [*kept, -1]].tolist(),
    }


def _clicked(masks: NDArray[np.bool_], alignment: NDArray[np.float32], decoded: Decoded) -> list[bool | None]:
    if decoded.byproduct_status is None:
        return [None] * len(masks)
    return list(clicked_regions(masks, alignment, decoded.clicks).tolist())


def clicked_regions(
    masks: NDArray[np.bool_], alignment: NDArray[np.float32], clicks: Sequence[Click]
) -> NDArray[np.bool_]:
    """Return which of (R, h, w) masks were clicked on: for each click, of the regions it lies in, the best aligned one.

    Without a label map (alignment NaN) the smallest one is taken.
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


def _row(image: ImageInput, decoded: Decoded, seen: dict[str, Any]) -> dict[str, Any]:
    nothing: dict[str, Any] = {name: [] for name in ("counts", "bbox", "area", "alignment", "clicked", "elsewhere")}
    height, width = decoded.size or (None, None)
    return {
        "image_id": image.image_id,
        "file_name": image.file_name,
        "label": image.label,
        "height": height,
        "width": width,
        "status": decoded.status,
        "reason": decoded.reason,
        **nothing,
        **seen,
    }
