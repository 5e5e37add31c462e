"""Single patches of regions, and regions that follow a change of the image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from build.ops.pooling import region_weights

__all__ = ["moved", "pick_patches"]

_STEP = 0.6180339887498949  # multiples of it, modulo 1, spread evenly, however many there are


def pick_patches(values: Tensor, masks: Tensor, count: int) -> Tensor:
    """Return features of patches of each region and, last, of the whole image.

    Args:
        values: (B, D, h', w') features.
        masks: (B, R, h, w) bool or non-negative float.
        count: S, the most patches of a region. Of more, those are chosen that are spread evenly in reading order, and
            the first of them are, too.

    Returns:
        (B, R + 1, S, D); NaN for the patches that a region lacks, and everywhere for an empty mask. A patch is in a
        region if the region covers at least half as much of it as of any other patch.
    """
    weights = region_weights(masks, (values.shape[2], values.shape[3]))
    largest = weights.amax(dim=2, keepdim=True)
    inside = (weights >= largest / 2) & (largest > 0)
    turn = (inside.cumsum(dim=2).double() * _STEP).frac()
    shown = min(count, inside.shape[2])
    order = torch.where(inside, turn, 2.0).topk(shown, dim=2, largest=False)
    flat = values.flatten(2).mT[:, None].expand(-1, weights.shape[1], -1, -1)
    picked = flat.gather(2, order.indices[..., None].expand(-1, -1, -1, values.shape[1]))
    picked = torch.where((order.values < 1)[..., None], picked, torch.nan)
    return F.pad(picked, (0, 0, 0, count - shown), value=torch.nan)


def moved(masks: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """Return regions as changed images show them.

    Args:
        masks: (B, R, h, w) bool.
        places: (B, 2, 3) float32, from places in the changed images to places in the original ones, as shares of width
            and height.
        size: The grid (h', w') to return.

    Returns:
        (B, R, h', w') bool, by each cell's centre; empty where a region is no longer in view.
    """
    linear, shift = places[:, :, :2], places[:, :, 2]
    theta = torch.cat((linear, (linear.sum(dim=2) + 2 * shift - 1)[:, :, None]), dim=2)  # from shares to [-1, 1]
    grid = F.affine_grid(theta, [len(masks), 1, *size], align_corners=False)
    return F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False) > 0.5
