"""MixUp and CutMix with multi-label targets.

torchvision's and timm's own classes are used as they are: `Mixed` hands them the position of each image as its label, reads from
the result how much of which image went where, and mixes the targets by that. So they need not know our targets, whatever their
version. `RegionCutMix` is CutMix by regions: the pasted box hides some of one image's regions and brings in another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.sample import AnnotatedView
from mlimagenet_data.labelling.targets import label_view, multi_hot, soft, with_ignore

__all__ = ["Mixed", "RegionCutMix", "mix_targets"]

_VECTORS = {"multi_hot": multi_hot, "soft": soft, "ignore": with_ignore}


def mix_targets(weights: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mix targets as their images were mixed.

    Args:
        weights: (B, B), the share of image j in mixed image i; rows sum to 1.
        targets: (B, K) float in [0, 1], or -1 for classes whose presence is undecided.

    Returns:
        (B, K): the weighted sum; -1 where the presence of a class is undecided in an image that has a share.
    """
    weights = weights.to(targets.dtype)
    undecided = (weights @ (targets < 0).to(targets.dtype)) > 0
    mixed = weights @ targets.clamp(min=0)
    return torch.where(undecided, torch.full_like(mixed, -1.0), mixed)


class Mixed:
    """Lets a batch mixer for single labels mix multi-label targets.

    Args:
        mixer: Called with images (B, C, H, W) and int64 labels (B,); returns mixed images and labels (B, C) with C >= B, such as
            `v2.MixUp(num_classes=N)`, `v2.CutMix(num_classes=N)`, `v2.RandomChoice` of both, or `timm.data.Mixup(num_classes=N,
            label_smoothing=0)`, with N at least the batch size. timm's needs a batch of even size.
    """

    def __init__(self, mixer: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.mixer = mixer

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mixed images, and (B, K) targets.

        Raises:
            ValueError: If the mixer's labels are no mixture of at most two images (too few classes, or label smoothing).
        """
        count = len(images)
        positions = torch.arange(count, device=images.device)
        mixed, weights = self.mixer(images, positions)
        if weights.ndim != 2 or weights.shape[1] < count or int((weights != 0).sum(dim=1).max()) > 2:
            raise ValueError(
                f"the mixer turned {count} positions into labels of shape {tuple(weights.shape)} that are no mixture of two "
                "images: its num_classes must be at least the batch size, its label smoothing 0"
            )
        return mixed, mix_targets(weights[:, :count].to(targets.device), targets)


class RegionCutMix:
    """CutMix whose targets are what can be seen: a collate function for a dataset with target="view".

    A box of each image is replaced by the same box of the next one in the batch. Each class is then judged by the policy: in the
    first image by what the box leaves of its regions, in the second by what the box shows of them, both against the whole view.
    Yun et al., "CutMix", arXiv 1905.04899, draws the box, but weights labels by its area.

    Args:
        alpha: Of the Beta distribution of the share that an image keeps.
        p: Probability that a batch is mixed.
        policy: Which classes count as present.
        target: `multi_hot`, `soft` (the higher score of both images) or `ignore`.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        p: float = 0.5,
        *,
        policy: LabelPolicy | None = None,
        target: Literal["multi_hot", "soft", "ignore"] = "multi_hot",
    ) -> None:
        if alpha <= 0 or not 0 <= p <= 1:
            raise ValueError(f"alpha must be positive and p in [0, 1], got {alpha} and {p}")
        if target not in _VECTORS:
            raise ValueError(f"target must be one of {', '.join(_VECTORS)}, got {target!r}")
        self.alpha, self.p, self.policy, self.target = alpha, p, policy or LabelPolicy(), target

    def __call__(self, samples: Sequence[tuple[torch.Tensor, AnnotatedView]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) and targets (B, K) of a list of (image tensor, AnnotatedView)."""
        images = torch.stack([image for image, _ in samples])
        seen = [what for _, what in samples]
        if len(samples) < 2 or float(torch.rand(())) >= self.p:
            return images, self._stack([self._vector(what) for what in seen])
        height, width = images.shape[-2:]
        top, left, bottom, right = self._box(height, width)
        images[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right].clone()
        box = (top, left, bottom - top, right - left)
        vectors = [
            _either(
                self._vector(AnnotatedView(here.record, here.view.erase(*box))),
                self._vector(AnnotatedView(there.record, there.view.keep(*box))),
            )
            for here, there in zip(seen, [seen[-1], *seen[:-1]], strict=True)
        ]
        return images, self._stack(vectors)

    def _box(self, height: int, width: int) -> tuple[int, int, int, int]:
        kept = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        half = 0.5 * (1.0 - kept) ** 0.5
        y, x = float(torch.rand(())) * height, float(torch.rand(())) * width
        edges = (y - half * height, x - half * width, y + half * height, x + half * width)
        limits = (height, width, height, width)
        top, left, bottom, right = (min(max(round(edge), 0), limit) for edge, limit in zip(edges, limits, strict=True))
        return top, left, bottom, right

    def _vector(self, what: AnnotatedView) -> NDArray[np.float32]:
        return _VECTORS[self.target](label_view(what.record, self.policy, what.view))

    @staticmethod
    def _stack(vectors: list[NDArray[np.float32]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(vectors))


def _either(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the higher value of both; -1 (undecided) where one is -1 and the other not positive."""
    best = np.maximum(a, b)
    undecided = (best <= 0) & ((a < 0) | (b < 0))
    return np.where(undecided, np.float32(-1.0), best)
