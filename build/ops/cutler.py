"""CutLER's own rules for the rounds of MaskCut, so that regions can be compared with published ones.

Wang et al., arXiv 2301.11320, section 3.2, and what its published script does beyond the text; no code of it is used.
The graph and its cut are those of `build.ops.maskcut`, to which these rules differ as follows:

- The foreground is the side above the mean, unless it contains three or four of the image's corners, or lacks the patch
  with the largest absolute value. It thus depends on the eigenvector's sign, which solvers choose arbitrarily; here it
  is positive along `build.ops.ncut.tie_breaker`.
- Painted-out patches take part in later rounds, all on one side, and a later mask may contain them. They are cut out of
  it before it is published.
- A mask is dropped if it covers too little, or if its IoU with the previous round's mask is too high. Earlier rounds are
  not looked at, and the first mask is never dropped. A dropped mask is not painted out, so that the next round finds it
  again: it stays dropped if it is small, but is kept if it was a duplicate.
- A mask is also dropped if filling its holes more than doubles its area.

Of nearly equal extremes, the first in reading order counts, and a graph without a cut has no mask, as in
`build.ops.maskcut`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from build.ops.components import component_at, fill_holes
from build.ops.ncut import NO_CUT, Cut, Graph, second_vectors, tie_breaker
from build.ops.rounds import Regions, first_largest, has_corners

__all__ = ["find_by_cutler"]

_LEAST_FILLED = 0.5  # IoU of a mask and the same mask with its holes filled


def find_by_cutler(
    joined: Tensor,
    start: Tensor,
    passes: int | None,
    *,
    size: tuple[int, int],
    num_regions: int,
    min_area: float,
    max_iou: float,
    sign: int = 1,
) -> Regions:
    """Run all rounds on B images; see `build.ops.maskcut.maskcut`.

    Args:
        joined: (B, N, N), J of `build.ops.ncut`.
        start: Start directions of the solver.
        passes: Products with J in the solver; None for LAPACK.
        size: The grid's height and width.
        num_regions: Number of rounds.
        min_area: Drop masks that cover at most this share of the grid.
        max_iou: Drop masks whose IoU with the previous one exceeds this.
        sign: -1 turns the sign of each eigenvector.
    """
    alive = torch.ones(joined.shape[:2], dtype=torch.bool, device=joined.device)
    before = taken = torch.zeros((len(joined), *size), dtype=torch.bool, device=joined.device)
    found: list[Regions] = []
    for number in range(num_regions):
        cut = second_vectors(Graph(joined, alive), start, passes)
        side, seeds = _foreground(_signed(cut, alive, sign).view(-1, *size))
        mask = component_at(side & (cut.values >= NO_CUT)[:, None, None], seeds)
        if number:
            dropped = (_iou(mask, before) > max_iou) | (mask.flatten(1).float().mean(1) <= min_area)
            mask = mask & ~dropped[:, None, None]
        before = mask
        alive = alive & ~mask.flatten(1)
        mask = mask & ~taken
        taken = taken | mask
        filled = fill_holes(mask)
        kept = mask.flatten(1).any(1) & (_iou(mask, filled) >= _LEAST_FILLED)
        found.append(Regions(filled & kept[:, None, None], kept, cut.passes, ~cut.converged))
        start = cut.ritz * alive[..., None]
    return Regions(*(torch.stack(values, dim=1) for values in zip(*found, strict=True)))


def _signed(cut: Cut, alive: Tensor, sign: int) -> Tensor:
    """Return the eigenvectors (B, N) with a fixed sign, and exact values at painted-out patches.

    A painted-out patch is similar to none, so its value is the mean of all values over the eigenvalue. It is so close to
    the mean that rounding would decide on its side.
    """
    painted = (~alive).sum(dim=1, keepdim=True)
    value = cut.values[:, None].clamp_min(NO_CUT)
    mean = (cut.vectors * alive).sum(dim=1, keepdim=True) / (alive.shape[1] - painted / value)
    vectors = torch.where(alive, cut.vectors, mean / value)
    along = vectors @ tie_breaker(alive.shape[1], str(alive.device))
    return vectors * torch.where(along < 0, -sign, sign)[:, None]


def _foreground(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the foreground of (B, h, w) vectors as (B, h, w) bool, and the positions (B,) of its extreme patches."""
    flat = vectors.flatten(1)
    everywhere = torch.ones_like(flat, dtype=torch.bool)
    side = flat > flat.mean(dim=1, keepdim=True)
    extreme = first_largest(flat.abs(), everywhere)
    turned = has_corners(side.view(vectors.shape)) | ~side.gather(1, extreme[:, None])
    seeds = first_largest(torch.where(turned, -flat, flat), everywhere)
    return (side ^ turned).view(vectors.shape), seeds


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of each two of (B, h, w) masks; 0 if both are empty."""
    union = (a | b).flatten(1).sum(1)
    return (a & b).flatten(1).sum(1) / union.clamp_min(1)
