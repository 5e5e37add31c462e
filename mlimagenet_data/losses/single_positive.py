"""Multi-label losses for single labels: one class per image is known to be present, all other classes are unknown.

Cole et al., "Multi-Label Learning from Single Positive Labels", arXiv 2106.09708: assume negative (AN), AN with label
smoothing (AN-LS), and expected-positive regularisation (EPR). Their ROLE is omitted: it learns an estimate of every
label of every image, which for ImageNet takes 1.3 billion parameters and a separate optimiser. Zhou et al.,
"Acknowledging the Unknown for Multi-label Learning with Single Positive Labels", arXiv 2203.16219: entropy maximisation
(EM), here without pseudo-labels.

All take logits (B, K) and labels (B,), int64 in [0, K), from a dataset with `target="single"`. Images without a label
(-1) are ignored. The papers average over classes; like all losses here, these are K times that.
"""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from mlimagenet_data.losses.reduction import as_float, mean_of, one_hot, sum_over_decided

__all__ = ["assume_negative", "entropy_maximisation", "expected_positive"]


def assume_negative(logits: torch.Tensor, labels: torch.Tensor, *, smoothing: float = 0.0) -> torch.Tensor:
    """Return the binary cross-entropy with every class except the label assumed absent.

    Args:
        logits: (B, K).
        labels: (B,); -1 for none.
        smoothing: Shift of each target towards the opposite value, in [0, 0.5]; the paper's epsilon / 2
            (epsilon = 0.1).

    Raises:
        ValueError: If the shapes are inconsistent, or `smoothing` is out of range.
    """
    if not 0 <= smoothing <= 0.5:
        raise ValueError(f"smoothing must be in [0, 0.5], got {smoothing}")
    logits = as_float(logits)
    positive, known = one_hot(logits, labels)
    targets = positive * (1 - 2 * smoothing) + smoothing
    return sum_over_decided(softplus(logits) - targets * logits, known)


def entropy_maximisation(logits: torch.Tensor, labels: torch.Tensor, *, weight: float = 0.1) -> torch.Tensor:
    """Return the loss that raises the label's score and maximises the entropy of all other classes.

    arXiv 2203.16219: -log p for the label plus -weight H(p) for every other class, with the binary entropy H(p) =
    -p log p - (1 - p) log(1 - p). Entropy is rewarded, so the loss can be negative.

    Args:
        logits: (B, K).
        labels: (B,); -1 for none.
        weight: Weight of the entropy, the paper's alpha.

    Raises:
        ValueError: If the shapes are inconsistent.
    """
    logits = as_float(logits)
    positive, known = one_hot(logits, labels)
    p = logits.sigmoid()
    entropy = p * softplus(-logits) + (1 - p) * softplus(logits)
    return sum_over_decided(positive * softplus(-logits) - weight * (1 - positive) * entropy, known)


def expected_positive(logits: torch.Tensor, labels: torch.Tensor, *, count: float) -> torch.Tensor:
    """Return the loss that raises the label's score and keeps the batch's mean at `count` classes per image.

    arXiv 2106.09708 (EPR): -1/K log p for the label, plus ((the batch's mean of sum_k p_k) - count)^2 / K^2 once per
    batch.

    Args:
        logits: (B, K).
        labels: (B,); -1 for none.
        count: Expected number of classes per image, known or estimated in advance: 1.2 for ImageNet's validation images
            by ReaL.

    Raises:
        ValueError: If the shapes are inconsistent, or `count` is negative.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    logits = as_float(logits)
    positive, known = one_hot(logits, labels)
    found = mean_of(logits.sigmoid().sum(dim=1), known[:, 0])
    regulariser = (found - count) ** 2 / logits.shape[1] * known.any()
    return sum_over_decided(positive * softplus(-logits), known) + regulariser
