"""Multi-label training from single labels: of each image one class is known to be present, and nothing of the others.

Cole et al., "Multi-Label Learning from Single Positive Labels", arXiv 2106.09708: assuming the others absent (AN), with label
smoothing (AN-LS), and expected-positive regularisation (EPR). Its ROLE is left out: it learns an estimate of each label of each
image, for ImageNet 1.3 billion parameters with an optimiser of their own. Zhou et al., "Acknowledging the Unknown for Multi-label
Learning with Single Positive Labels", arXiv 2203.16219: entropy maximisation (EM), here without its pseudo-labels.

All take logits (B, K) and labels (B,), int64 in [0, K), as a dataset with `target="single"` gives them; images without a label
(-1) are left out. The papers average over classes; these losses are K times theirs, as all losses here are.
"""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from mlimagenet_data.losses.reduction import as_float, mean_of, one_hot, sum_over_decided

__all__ = ["assume_negative", "entropy_maximisation", "expected_positive"]


def assume_negative(logits: torch.Tensor, labels: torch.Tensor, *, smoothing: float = 0.0) -> torch.Tensor:
    """Return the binary cross-entropy that takes every class but the label for absent.

    Args:
        logits: (B, K).
        labels: (B,); -1 for none.
        smoothing: What each target moves to the other side, in [0, 0.5]; the paper's epsilon / 2 (it has epsilon = 0.1).

    Raises:
        ValueError: If the shapes do not belong together, or `smoothing` is out of its range.
    """
    if not 0 <= smoothing <= 0.5:
        raise ValueError(f"smoothing must be in [0, 0.5], got {smoothing}")
    logits = as_float(logits)
    positive, known = one_hot(logits, labels)
    targets = positive * (1 - 2 * smoothing) + smoothing
    return sum_over_decided(softplus(logits) - targets * logits, known)


def entropy_maximisation(logits: torch.Tensor, labels: torch.Tensor, *, weight: float = 0.1) -> torch.Tensor:
    """Return the loss that raises the label's score and pushes all others towards not knowing.

    arXiv 2203.16219: -log p of the label, and -weight H(p) of each other class, with the binary entropy H(p) =
    -p log p - (1 - p) log(1 - p). Entropy is a reward: the loss may be negative.

    Args:
        logits: (B, K).
        labels: (B,); -1 for none.
        weight: Of the entropy, the paper's alpha.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    logits = as_float(logits)
    positive, known = one_hot(logits, labels)
    p = logits.sigmoid()
    entropy = p * softplus(-logits) + (1 - p) * softplus(logits)
    return sum_over_decided(positive * softplus(-logits) - weight * (1 - positive) * entropy, known)


def expected_positive(logits: torch.Tensor, labels: torch.Tensor, *, count: float) -> torch.Tensor:
    """Return the loss that raises the label's score and asks that a batch has `count` classes an image.

    arXiv 2106.09708 (EPR): -1/K log p of the label, and ((the batch's mean of sum_k p_k) - count)^2 / K^2 once a
    batch.

    Args:
        logits: (B, K).
        labels: (B,); -1 for none.
        count: Expected number of classes an image, known or estimated beforehand: 1.2 for ImageNet's validation images by ReaL.

    Raises:
        ValueError: If the shapes do not belong together, or `count` is negative.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    logits = as_float(logits)
    positive, known = one_hot(logits, labels)
    found = mean_of(logits.sigmoid().sum(dim=1), known[:, 0])
    regulariser = (found - count) ** 2 / logits.shape[1] * known.any()
    return sum_over_decided(positive * softplus(-logits), known) + regulariser
