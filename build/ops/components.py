"""Connected components of batches of masks, on any torch device: 4-connected, the default of scipy.ndimage."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["component_at", "fill_holes"]


def component_at(masks: Tensor, seeds: Tensor) -> Tensor:
    """Return the component of each mask that contains its seed.

    Args:
        masks: (B, h, w) bool.
        seeds: (B,) int64, positions row * w + column.

    Returns:
        (B, h, w) bool; empty where the seed is outside the mask.
    """
    reached = torch.zeros_like(masks)
    reached.view(len(masks), -1).scatter_(1, seeds[:, None], True)
    reached &= masks
    runs = _runs(masks), _runs(masks.mT.contiguous())
    while True:  # each step fills whole runs of cells: a blob takes a few steps, not its diameter
        before = reached
        reached = _along(reached, runs[0])
        reached = _along(reached.mT, runs[1]).mT
        if torch.equal(reached, before):
            return reached.contiguous()


def fill_holes(masks: Tensor) -> Tensor:
    """Fill the holes of (B, h, w) masks: cells without a 4-connected path to the border."""
    outside = torch.nn.functional.pad(~masks, (1, 1, 1, 1), value=True)
    seeds = torch.zeros(len(masks), dtype=torch.int64, device=masks.device)
    return ~component_at(outside, seeds)[:, 1:-1, 1:-1]


def _runs(masks: Tensor) -> Tensor:
    """Number each mask's runs of cells along the rows, starting at 1; 0 outside the mask: (B, h, w) int64."""
    starts = masks.clone()
    starts[..., 1:] &= ~masks[..., :-1]
    return starts.flatten(1).cumsum(1).view(masks.shape) * masks


def _along(reached: Tensor, runs: Tensor) -> Tensor:
    """Extend the reached cells to the whole runs that contain them."""
    count, cells = len(runs), runs[0].numel()
    flat = runs.flatten(1)
    hit = torch.zeros((count, cells + 1), dtype=torch.uint8, device=runs.device)
    hit.scatter_reduce_(1, flat, reached.flatten(1).to(torch.uint8), "amax")
    hit[:, 0] = 0
    return hit.gather(1, flat).view(runs.shape).bool()
