"""What all rules of MaskCut's rounds share: the result, the corner rule, and the choice among extreme patches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["NEARLY", "Regions", "first_largest", "has_corners"]

NEARLY = 1e-3  # entries within this share of the largest one count as equally large


class Regions(NamedTuple):
    """Masks of B images after R rounds of MaskCut.

    Attributes:
        masks: (B, R, h, w) bool.
        kept: (B, R) bool; false for masks that are empty, too small, or duplicates of an earlier one.
        passes: (B, R) int64, products with the affinity in the solver's last attempt.
        exact: (B, R) bool, whether it failed, so that all of the image's rounds were solved by LAPACK.
    """

    masks: Tensor
    kept: Tensor
    passes: Tensor
    exact: Tensor


def has_corners(side: Tensor) -> Tensor:
    """Return (B, 1) bool: whether each of (B, h, w) sides contains three or four of the grid's corners."""
    height, width = side.shape[1:]
    flat = side.flatten(1)
    corners = [0, width - 1, (height - 1) * width, height * width - 1]
    return torch.stack([flat[:, place] for place in corners]).sum(dim=0)[:, None] >= 3  # a list would be sent over


def first_largest(values: Tensor, allowed: Tensor) -> Tensor:
    """Return the first allowed position of each row of (B, N) with nearly the largest value; 0 if none is allowed."""
    values = torch.where(allowed, values, -torch.inf)
    largest = values.amax(dim=1, keepdim=True)
    least = largest - NEARLY * largest.abs()
    return (values >= least).to(torch.uint8).argmax(dim=1)
