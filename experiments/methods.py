"""The methods that are compared: whose labels, of what, and by which loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["METHODS", "Method"]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy with a distribution; crops without one count nothing."""
    return (-target * logits.log_softmax(dim=1)).sum() / target.sum().clamp_min(1.0)


def binary(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, summed over classes; those marked -1 count nothing."""
    losses = F.binary_cross_entropy_with_logits(logits, target.clamp_min(0), reduction="none")
    return (losses * (target >= 0)).sum(dim=1).mean()


def smoothed(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy with assumed negatives smoothed by 0.1."""
    return F.binary_cross_entropy_with_logits(logits, 0.9 * target + 0.05, reduction="none").sum(dim=1).mean()


def entropy_maximisation(logits: Tensor, target: Tensor) -> Tensor:
    """Positives by cross-entropy, the entropy of all others maximised with weight 0.1 (arXiv 2203.16219)."""
    p = logits.sigmoid()
    entropy = -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits))
    return (-target * F.logsigmoid(logits) - 0.1 * (1 - target) * entropy).sum(dim=1).mean()


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Attributes:
        name: As the tables call it.
        source: `known`: the scenes' true objects; `built`: the build's labels and masks of the scenes.
        target: One of `experiments.crops.TARGETS`.
        loss: Of logits and targets, (B, K) each.
        sigmoid: Whether scores are sigmoids, else a softmax.
    """

    name: str
    source: str
    target: str
    loss: Callable[[Tensor, Tensor], Tensor]
    sigmoid: bool = True

    def scores(self, logits: Tensor) -> Tensor:
        """Return the classes' scores in [0, 1]."""
        return torch.sigmoid(logits) if self.sigmoid else logits.softmax(dim=1)


METHODS = (
    Method("single label, softmax", "known", "single", cross_entropy, sigmoid=False),
    Method("single label, binary (others assumed absent)", "known", "single", binary),
    Method("single label, binary, smoothed", "known", "single", smoothed),
    Method("single label, entropy maximised", "known", "single", entropy_maximisation),
    Method("single label where it is in view, softmax", "known", "located", cross_entropy, sigmoid=False),
    Method("all labels of the image", "known", "image", binary),
    Method("labels of the crop", "known", "crop", binary),
    Method("labels of the crop, undecided left out", "known", "ignore", binary),
    Method("labels of the crop, pooled (softmax)", "known", "pooled", cross_entropy, sigmoid=False),
    Method("built: all labels of the image", "built", "image", binary),
    Method("built: labels of the crop", "built", "crop", binary),
    Method("built: labels of the crop, undecided left out", "built", "ignore", binary),
)
