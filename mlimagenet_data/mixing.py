"""MixUp and CutMix with multi-label targets.

`Mixed` wraps the mixers of torchvision and timm. It passes each image's position as its label, reads the images' shares
from the mixed labels, and mixes the targets by these shares. The mixers need no knowledge of our targets, whatever
their version. `RegionCutMix` is region-aware CutMix: the pasted box hides regions of one image and shows regions of
another.
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
    """Mix targets in the same proportions as their images.

    Args:
        weights: (B, B), the share of image j in mixed image i; rows sum to 1.
        targets: (B, K) float in [0, 1], or -1 for classes whose presence is undecided.

    Returns:
        (B, K): the weighted sum; -1 for classes undecided in an image with a share above 0.
    """
    weights = weights.to(targets.dtype)
    undecided = (weights @ (targets < 0).to(targets.dtype)) > 0
    mixed = weights @ targets.clamp(min=0)
    return torch.where(undecided, torch.full_like(mixed, -1.0), mixed)


class Mixed:
    """Adapts a batch mixer for single labels to multi-label targets.

    Args:
        mixer: Called with images (B, C, H, W) and int64 labels (B,); returns mixed images and labels (B, N).
            Examples: `v2.MixUp(num_classes=N)`, `v2.CutMix(num_classes=N)`, `v2.RandomChoice` of both, or
            `timm.data.Mixup(num_classes=N, label_smoothing=0)`, with N at least B. timm's requires an even B.
    """

    def __init__(self, mixer: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.mixer = mixer

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mixed images, and (B, K) targets.

        Raises:
            ValueError: If the mixer's labels do not mix at most two images (too few classes, or label smoothing).
        """
        count = len(images)
        positions = torch.arange(count, device=images.device)
        mixed, weights = self.mixer(images, positions)
        if weights.ndim != 2 or weights.shape[1] < count or int((weights != 0).sum(dim=1).max()) > 2:
            raise ValueError(
                f"the mixer returned labels of shape {tuple(weights.shape)} for {count} images; each row must mix "
                "at most two images: set num_classes to at least the batch size and label smoothing to 0"
            )
        return mixed, mix_targets(weights[:, :count].to(targets.device), targets)


class RegionCutMix:
    """CutMix with targets that match the visible regions: a collate function for a dataset with target="view".

    A box of each image is replaced by the same box of the previous one in the batch, cyclically. The policy then judges
    each class against the whole view: in the first image by its regions outside the box, in the second by its regions
    inside. The box is drawn as in Yun et al., "CutMix", arXiv 1905.04899, which weights labels by area instead.

    Args:
        alpha: Parameter of the Beta distribution that draws the share an image keeps.
        p: Probability of mixing a batch.
        policy: Rules that decide which classes count as present.
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
        if not isinstance(policy, LabelPolicy | None):
            raise TypeError(f"policy must be a LabelPolicy, got a {type(policy).__name__}")
        if target not in _VECTORS:
            raise ValueError(f"target must be one of {', '.join(_VECTORS)}, got {target!r}")
        self.alpha, self.p, self.policy, self.target = alpha, p, policy or LabelPolicy(), target

    def __call__(self, samples: Sequence[tuple[torch.Tensor, AnnotatedView]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Collate a list of (image tensor, AnnotatedView) into images (B, C, H, W) and targets (B, K)."""
        images = torch.stack([torch.as_tensor(image) for image, _ in samples])  # timm's prefetcher takes arrays
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
    """Return the elementwise maximum; -1 (undecided) where one is -1 and the other is not positive."""
    best = np.maximum(a, b)
    undecided = (best <= 0) & ((a < 0) | (b < 0))
    return np.where(undecided, np.float32(-1.0), best)
