"""Means of dense maps over regions, at the maps' true geometry: a mask covers a map's cells fractionally."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.geometry import resample_mask

__all__ = ["pool", "region_weights", "softmax"]


def region_weights(masks: Sequence[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the weights of a map's cells in each region's mean, and in the whole image's.

    Args:
        masks: R masks of any size, none of them empty.
        size: (h, w) of the map.

    Returns:
        (R + 1, h * w) float32, rows sum to 1. The last row is the whole image's, 1 / (h * w) everywhere.
    """
    cover = [resample_mask(mask, size).ravel() for mask in masks]
    rows = np.stack([*cover, np.ones(size[0] * size[1])])
    weights: NDArray[np.float32] = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def pool(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weighted means of a (C, h, w) map: (R, C) for weights (R, h * w)."""
    return np.asarray(weights @ values.reshape(values.shape[0], -1).T)


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return the softmax of logits / temperature over the last axis, float32."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), np.float32)
