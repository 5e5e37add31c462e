"""MaskCut on batches of images: object masks from patch features, by repeated normalised cuts, on any torch device.

Wang et al., "Cut and Learn for Unsupervised Object Detection and Instance Segmentation" (CutLER), arXiv 2301.11320,
section 3.2. Written from the paper. `build.ops.reference` is the same procedure in its plainest form, one image at a
time. Both deviate from the paper where float rounding would otherwise decide:

- In the paper's wording, the choice of side depends on the eigenvector's arbitrary sign; see `foreground`.
- Patches taken by earlier rounds are on neither side, because their entries are close to the mean that divides the
  sides.
- Entries at the mean are on neither side. Of nearly equal extremes, the first in reading order counts. For tied
  eigenvalues, see `build.ops.ncut`.

`build.ops.cutler` has CutLER's own rules in place of these.

No CRF follows, so masks keep to the patch grid. Returned masks have their holes filled, as the method does after its
CRF. Painting out, and the comparison with earlier masks, use the mask with its holes, so that an object in a hole can
still be found.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from build.ops.components import component_at, fill_holes
from build.ops.cutler import find_by_cutler
from build.ops.ncut import BLOCK, NO_CUT, PASSES, Graph, affinity, second_vectors
from build.ops.rounds import Regions, first_largest, has_corners

__all__ = ["AT_MEAN", "foreground", "maskcut", "start_directions", "unsolved"]

AT_MEAN = 1e-5  # an entry closer to the mean than this share of the largest entry is on neither side


@torch.inference_mode()
def maskcut(
    features: Tensor,
    *,
    tau: float,
    num_regions: int,
    min_area: float,
    max_iou: float,
    rules: str = "ours",
    sign: int = 1,
) -> Regions:
    """Return up to `num_regions` object masks of each image.

    Args:
        features: (B, C, h, w) float, one vector per patch.
        tau: Similarity threshold (cosine) for connecting two patches.
        num_regions: Rounds R; each paints out the patches of its mask.
        min_area: Drop masks that cover at most this share of the grid.
        max_iou: Drop masks whose IoU with an earlier one exceeds this.
        rules: `ours`, or `original` for those of `build.ops.cutler`.
        sign: -1 turns the sign of each eigenvector, on which the original rules depend.
    """
    size = (features.shape[2], features.shape[3])
    unit = F.normalize(features.float().flatten(2).mT, dim=-1)
    joined, start = affinity(unit, tau), start_directions(unit)
    chosen = functools.partial(find_by_cutler, sign=sign) if rules == "original" else _find
    find = functools.partial(chosen, size=size, num_regions=num_regions, min_area=min_area, max_iou=max_iou)
    found = find(joined, start, PASSES[0])
    for passes in (*PASSES[1:], None):
        left = unsolved(found)
        if not left:
            break
        for whole, part in zip(found, find(joined[left], start[left], passes), strict=True):
            whole[left] = part
    return found


def unsolved(found: Regions) -> list[int]:
    """Return the images that have not converged. The only place where MaskCut waits for the device."""
    return found.exact.any(dim=1).nonzero()[:, 0].tolist()


def _find(
    joined: Tensor,
    start: Tensor,
    passes: int | None,
    *,
    size: tuple[int, int],
    num_regions: int,
    min_area: float,
    max_iou: float,
) -> Regions:
    """Run all rounds on B images; the solver does `passes` products with the affinity, or is LAPACK."""
    alive = torch.ones(joined.shape[:2], dtype=torch.bool, device=joined.device)
    found: list[Regions] = []
    for _ in range(num_regions):
        cut = second_vectors(Graph(joined, alive), start, passes)
        grid = alive.view(-1, *size)
        side, seeds = foreground(cut.vectors.view(grid.shape), grid)
        mask = component_at(side & (cut.values >= NO_CUT)[:, None, None], seeds)
        alive = alive & ~mask.flatten(1)
        kept = (mask.flatten(1).float().mean(1) > min_area) & ~_repeats(mask, found, max_iou)
        found.append(Regions(mask, kept, cut.passes, ~cut.converged))
        start = cut.ritz * alive[..., None]
    masks, kept, all_passes, exact = (torch.stack(values, dim=1) for values in zip(*found, strict=True))
    filled = fill_holes(masks.flatten(0, 1)).view_as(masks)
    return Regions(filled & kept[..., None, None], kept, all_passes, exact)


def foreground(vectors: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Cut at the mean and choose the foreground side.

    The foreground is the side of the patch with the largest absolute value (seed rule), unless that side contains three
    or four of the image's corners; then it is the other side (corner rule). Unlike the paper's wording, this does not
    depend on the vector's sign.

    Args:
        vectors: (B, h, w), eigenvectors on the patch grid, zero at their D-weighted mean.
        alive: (B, h, w) bool, patches not taken by earlier rounds.

    Returns:
        The foreground as (B, h, w) bool, and the positions (B,) of its most extreme patches, the objects' seeds.
    """
    flat, alive = vectors.flatten(1), alive.flatten(1)
    margin = AT_MEAN * flat.abs().amax(dim=1, keepdim=True)
    offset = flat - flat.mean(dim=1, keepdim=True)
    extreme = first_largest(flat.abs(), alive)
    sign = offset.gather(1, extreme[:, None]).sign()
    side = (sign * offset > margin) & alive
    turned = has_corners(side.view(vectors.shape))
    sign = torch.where(turned, -sign, sign)
    side = torch.where(turned, (sign * offset > margin) & alive, side)
    return side.view(vectors.shape), first_largest(sign * flat, side)


def _repeats(mask: Tensor, earlier: list[Regions], max_iou: float) -> Tensor:
    """Return (B,) bool: whether a mask's IoU with an earlier kept one exceeds `max_iou`."""
    out = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    for one in earlier:
        common = (mask & one.masks).flatten(1).sum(1)
        union = (mask | one.masks).flatten(1).sum(1)
        out |= one.kept & (common > max_iou * union)
    return out


def start_directions(unit: Tensor) -> Tensor:
    """Approximate the affinity's leading eigenvectors by those of the cosine similarities, which are cheap."""
    centred = unit - unit.mean(dim=1, keepdim=True)
    directions = _directions(unit.shape[1], str(unit.device)).expand(len(unit), -1, -1)
    for _ in range(2):
        directions = F.normalize(centred @ (centred.mT @ directions), dim=1)
    return directions


@functools.lru_cache(maxsize=64)
def _directions(n: int, device: str) -> Tensor:
    return torch.randn(n, BLOCK - 1, generator=torch.Generator().manual_seed(0)).to(device)
