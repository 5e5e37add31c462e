"""Argument checks and reductions shared by all losses."""

from __future__ import annotations

import torch

__all__ = ["as_float", "check_targets", "mean_of", "one_hot", "sum_over_decided"]


def as_float(logits: torch.Tensor) -> torch.Tensor:
    """Return logits in at least float32; half precision is too coarse for a sum over classes."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def check_targets(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise ValueError unless both have the same shape (B, K)."""
    if logits.ndim != 2 or targets.shape != logits.shape:
        raise ValueError(
            f"logits and targets must both be (B, K), got {tuple(logits.shape)} and {tuple(targets.shape)}"
        )


def one_hot(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return single labels as (B, K) of 0 and 1, and (B, 1) bool: True for images with a label.

    Args:
        logits: (B, K); sets the shape and dtype.
        labels: (B,) int64 class indices; -1 for none.

    Raises:
        ValueError: If the shapes are inconsistent.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"logits must be (B, K) and labels (B,) integers, got {tuple(logits.shape)} and {tuple(labels.shape)} of "
            f"{labels.dtype}: use a dataset with target='single'"
        )
    known = (labels >= 0)[:, None]
    return torch.zeros_like(logits).scatter_(1, labels.clamp(min=0)[:, None], known.to(logits.dtype)), known


def sum_over_decided(each: torch.Tensor, decided: torch.Tensor) -> torch.Tensor:
    """Return K times the mean of `each` (B, K) over the entries where `decided` is true; 0 if there are none.

    `decided` is bool and broadcast.
    """
    return mean_of(each, decided) * each.shape[1]


def mean_of(each: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean, zero if all weights are zero; terms of weight zero must be finite."""
    weights = weights.to(each.dtype).expand_as(each)
    total = weights.sum()
    return (each * weights).sum() / torch.where(total > 0, total, 1.0)
