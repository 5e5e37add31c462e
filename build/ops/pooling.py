"""Means of dense maps over regions. Masks and maps may differ in size: a mask covers a map's cells fractionally."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlimagenet_data.views.boxes import resample_matrix

__all__ = ["pool", "region_weights", "softmax"]


def region_weights(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the weights of a map's cells in the mean over each region and over the whole image.

    Args:
        masks: (B, R, h, w) bool, or non-negative float.
        size: (h', w') of the map.

    Returns:
        (B, R + 1, h' * w') float32. Each row sums to 1, or to 0 for an empty mask. The last row is the whole image's,
        with equal weights.
    """
    count, _, height, width = masks.shape
    device = str(masks.device)
    rows, columns = _resampling(height, size[0], device), _resampling(width, size[1], device)
    cover = (rows @ masks.float() @ columns.T).flatten(2)
    whole = torch.ones((count, 1, cover.shape[2]), device=masks.device)
    weights = torch.cat((cover, whole), dim=1)
    return weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-12)


@functools.lru_cache(maxsize=256)  # else each call would send it to the device
def _resampling(cells: int, wanted: int, device: str) -> Tensor:
    return torch.tensor(resample_matrix(cells, wanted), dtype=torch.float32).to(device)


def pool(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted means of (B, C, h, w) maps: (B, R, C) for weights (B, R, h * w)."""
    return weights @ values.flatten(2).mT


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return the softmax of logits / temperature over the last axis, as float32."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), np.float32)
