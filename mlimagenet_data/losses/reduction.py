"""What all losses share: the checks of their arguments, and how single terms make up a loss."""

from __future__ import annotations

import torch

__all__ = ["as_float", "check_targets", "mean_of", "one_hot", "sum_over_decided"]


def as_float(logits: torch.Tensor) -> torch.Tensor:
    """Return logits as float32, or as they are if that is more: half precision has no room for a sum over classes."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def check_targets(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise ValueError unless both are of one shape (B, K)."""
    if logits.ndim != 2 or targets.shape != logits.shape:
        raise ValueError(
            f"logits and targets must both be (B, K), got {tuple(logits.shape)} and {tuple(targets.shape)}"
        )


def one_hot(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return single labels as (B, K) of 0 and 1, and (B, 1) bool: which images have one.

    Args:
        logits: (B, K), for shape and type.
        labels: (B,) int64 class indices; -1 for none.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"logits must be (B, K) and labels (B,) integers, got {tuple(logits.shape)} and {tuple(labels.shape)} of "
            f"{labels.dtype}: a dataset with target='single' gives such labels"
        )
    known = (labels >= 0)[:, None]
    return torch.zeros_like(logits).scatter_(1, labels.clamp(min=0)[:, None], known.to(logits.dtype)), known


def sum_over_decided(each: torch.Tensor, decided: torch.Tensor) -> torch.Tensor:
    """Return K times the mean of (B, K) terms over those that are decided (bool, broadcast): zero where none is."""
    return mean_of(each, decided) * each.shape[1]


def mean_of(each: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean, zero where all weights are; terms of weight zero must be finite."""
    weights = weights.to(each.dtype).expand_as(each)
    total = weights.sum()
    return (each * weights).sum() / torch.where(total > 0, total, 1.0)
