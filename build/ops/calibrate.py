"""Choice of tau for a backbone from a sample of images; a tau does not carry over to other backbones.

The criterion needs no labels: regions should not depend on the exact value of tau. The chosen tau has the most regions
per image that both neighbouring taus also find (IoU >= 0.5). Too low a tau joins everything: few regions. Too high a
tau leaves fragments that change with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from build.ops.maskcut import maskcut
from build.ops.rounds import Regions

__all__ = ["TAUS", "choose_tau", "stability"]

TAUS = tuple(round(0.05 * k, 2) for k in range(1, 19))
_STEP = 0.05
_SAME = 0.5


def stability(
    features: torch.Tensor, taus: Sequence[float] = TAUS, *, num_regions: int, min_area: float, max_iou: float
) -> np.ndarray:
    """Count, per image and tau, the regions that the next lower and the next higher tau also find.

    Args:
        features: (B, C, h, w), the patch features of B images.
        taus: Ascending. Neighbours are 0.05 away.
        num_regions: See `maskcut`.
        min_area: See `maskcut`.
        max_iou: See `maskcut`.

    Returns:
        (B, T) int64.
    """

    def cut(tau: float) -> Regions:
        return maskcut(features, tau=tau, num_regions=num_regions, min_area=min_area, max_iou=max_iou)

    wanted = sorted({round(tau + step, 6) for tau in taus for step in (-_STEP, 0, _STEP)})
    found = {tau: cut(tau) for tau in wanted}
    counts = []
    for tau in taus:
        here, low, high = (found[round(tau + step, 6)] for step in (0, -_STEP, _STEP))
        counts.append((here.kept & _found_in(here, low) & _found_in(here, high)).sum(dim=1))
    return torch.stack(counts, dim=1).cpu().numpy()


def _found_in(regions: Regions, others: Regions) -> torch.Tensor:
    """Return (B, R) bool: whether each region has an IoU of at least 0.5 with one of the others."""
    a, b = (r.masks.flatten(2).float() for r in (regions, others))
    common = a @ b.mT
    union = a.sum(2)[:, :, None] + b.sum(2)[:, None] - common
    return (common >= _SAME * union.clamp_min(1)).any(dim=2)


def choose_tau(counts: np.ndarray, taus: Sequence[float] = TAUS) -> float:
    """Return the tau with the largest mean of (N, T) counts; the lowest one in a tie."""
    return taus[int(np.argmax(counts.mean(axis=0)))]
