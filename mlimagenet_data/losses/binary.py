"""Per-class losses that ignore undecided classes: binary cross-entropy and the asymmetric loss."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from mlimagenet_data.losses.reduction import as_float, check_targets, sum_over_decided

__all__ = ["asymmetric", "binary_cross_entropy"]


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k [y_k log p_k + (1 - y_k) log(1 - p_k)] with p = sigmoid(logits), averaged over the batch.

    Classes with a negative target are ignored: the sum is K times the mean over the batch's decided classes.

    Args:
        logits: (B, K).
        targets: (B, K) in [0, 1], or -1 for classes whose presence is undecided: `multi_hot`, `soft`, `ignore`.

    Raises:
        ValueError: If the shapes differ.
    """
    check_targets(logits, targets)
    logits = as_float(logits)
    each = binary_cross_entropy_with_logits(logits, targets.to(logits.dtype).clamp(min=0), reduction="none")
    return sum_over_decided(each, targets >= 0)


def asymmetric(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    margin: float = 0.05,
) -> torch.Tensor:
    """Return the asymmetric loss (ASL): the more confidently a negative is absent, the less it counts.

    Ridnik et al., "Asymmetric Loss For Multi-Label Classification", arXiv 2009.14119: with p = sigmoid(logits)
    and p_m = max(p - margin, 0), a class's term is -y (1 - p)^gamma_pos log p - (1 - y) p_m^gamma_neg log(1 - p_m).
    Undecided classes are ignored, as in `binary_cross_entropy`. For targets of 0 and 1, timm's AsymmetricLossMultiLabel
    is the same except that it clamps logarithms at log(1e-8) and defaults to gamma_pos 1.

    Args:
        logits: (B, K).
        targets: (B, K) in [0, 1], or -1 for undecided classes.
        gamma_pos: Focusing of positives, 0 or at least 1.
        gamma_neg: Focusing of negatives, 0 or at least 1.
        margin: Negatives with a probability up to this have no loss; in [0, 1).

    Raises:
        ValueError: If the shapes differ, or a parameter is out of range.
    """
    check_targets(logits, targets)
    if not 0 <= margin < 1 or any(0 < gamma < 1 or gamma < 0 for gamma in (gamma_pos, gamma_neg)):
        raise ValueError(
            f"margin must be in [0, 1) and gammas 0 or at least 1 (the gradient is unbounded in between), got margin "
            f"{margin}, gamma_pos {gamma_pos}, gamma_neg {gamma_neg}"
        )
    logits = as_float(logits)
    wanted = targets.to(logits.dtype).clamp(min=0)
    missing, shifted = torch.sigmoid(-logits), (torch.sigmoid(logits) - margin).clamp(min=0)
    log_absent = torch.log1p(-shifted) if margin > 0 else logsigmoid(-logits)
    positive = missing**gamma_pos * logsigmoid(logits)
    negative = shifted**gamma_neg * log_absent
    return sum_over_decided(-wanted * positive - (1 - wanted) * negative, targets >= 0)
