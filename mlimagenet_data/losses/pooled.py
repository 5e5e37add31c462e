"""ReLabel: targets pooled from a label map over the crop, and their cross-entropy.

Yun et al., "Re-labeling ImageNet: from Single to Multi-Labels, from Global to Localized Labels", arXiv 2101.05022.
The loader's `pooled` target is also a distribution, computed from regions; `soft_cross_entropy` fits both.
"""

from __future__ import annotations

import torch

from mlimagenet_data.losses.reduction import as_float, check_targets, mean_of
from mlimagenet_data.views.grids import overlap

__all__ = ["pool_label_map", "soft_cross_entropy"]


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k y_k log softmax(logits)_k, averaged over the images that have a target.

    Args:
        logits: (B, K).
        targets: (B, K), at least 0; each row sums to 1, or is all zeros and ignored.

    Raises:
        ValueError: If the shapes differ, or a target is negative: a distribution has no undecided classes.
    """
    check_targets(logits, targets)
    if bool((targets < 0).any()):
        raise ValueError("targets must not be negative, got undecided classes (-1): use target='pooled'")
    logits = as_float(logits)
    each = -(targets.to(logits.dtype) * logits.log_softmax(dim=1)).sum(dim=1)
    return mean_of(each, targets.sum(dim=1) > 0)


def pool_label_map(label_maps: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Return the softmax of label maps averaged over crops: targets for `soft_cross_entropy`.

    The average is exact by area; the paper samples with RoIAlign.

    Args:
        label_maps: (B, K, h, w) logits; each map covers its whole image.
        edges: (B, 4) the crops' edges; see `mlimagenet_data.views.grids.edges_of`. Area outside the image is ignored.

    Returns:
        (B, K), rows sum to 1; zeros for a crop entirely outside its image.

    Raises:
        ValueError: If the shapes are inconsistent.
    """
    label_maps = as_float(label_maps)
    rows, columns = overlap(edges, (1, 1), label_maps)
    shown = torch.einsum("bgh,bfw->b", rows, columns)[:, None]
    total = torch.einsum("bkhw,bgh,bfw->bk", label_maps, rows, columns)
    return torch.where(shown > 0, (total / torch.where(shown > 0, shown, 1.0)).softmax(dim=1), 0.0)
