"""Chooses tau for a backbone from a sample of images, since it does not carry over from one backbone to another.

The criterion needs no labels: tau is right where regions do not hang on its exact value. Of the taus tried, the one is taken at
which most regions are found an image that both neighbouring taus find, too (IoU >= 0.5). Too low a tau joins everything: few
regions. Too high a tau leaves fragments that change with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from build.config.options import BuildConfig
from build.ops.maskcut import Regions, maskcut

__all__ = ["TAUS", "choose_tau", "stability"]

TAUS = tuple(round(0.05 * k, 2) for k in range(1, 19))
_STEP = 0.05
_SAME = 0.5


def stability(features: torch.Tensor, config: BuildConfig, taus: Sequence[float] = TAUS) -> np.ndarray:
    """Return for each image and tau the number of regions that the next lower and the next higher tau find, too.

    Args:
        features: (B, C, h, w), the patch features of B images.
        config: MaskCut's other options.
        taus: Ascending. Neighbours are 0.05 away.

    Returns:
        (B, T) int64.
    """

    def cut(tau: float) -> Regions:
        limits = {"min_area": config.min_area, "max_iou": config.max_iou}
        return maskcut(features, tau=tau, num_regions=config.num_regions, **limits)

    wanted = sorted({round(tau + step, 6) for tau in taus for step in (-_STEP, 0, _STEP)})
    found = {tau: cut(tau) for tau in wanted}
    counts = []
    for tau in taus:
        here, low, high = (found[round(tau + step, 6)] for step in (0, -_STEP, _STEP))
        counts.append((here.kept & _found_in(here, low) & _found_in(here, high)).sum(dim=1))
    return torch.stack(counts, dim=1).cpu().numpy()


def _found_in(regions: Regions, others: Regions) -> torch.Tensor:
    """Return (B, R) bool: which regions have one among the others that is nearly the same."""
    a, b = (r.masks.flatten(2).float() for r in (regions, others))
    common = a @ b.mT
    union = a.sum(2)[:, :, None] + b.sum(2)[:, None] - common
    return (common >= _SAME * union.clamp_min(1)).any(dim=2)


def choose_tau(counts: np.ndarray, taus: Sequence[float] = TAUS) -> float:
    """Return the tau with the largest mean of (N, T) counts; of equal ones the lowest."""
    return taus[int(np.argmax(counts.mean(axis=0)))]
