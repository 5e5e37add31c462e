"""What a network sees of a batch of images, as the regions stage uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image

__all__ = ["Backbone", "Maps"]


@dataclass(frozen=True)
class Maps:
    """A network's maps of B images, on its device.

    Attributes:
        patches: (B, C, h, w) float32, the features that MaskCut cuts.
        features: (B, D, h', w') float32 each, the features whose mean over a region, and over these maps, the labeler reads.
        label_maps: (B, K, h', w') float32 logits each, a classifier applied at each location, at different image sizes; none of a
            network without one.
    """

    patches: torch.Tensor
    features: tuple[torch.Tensor, ...]
    label_maps: tuple[torch.Tensor, ...]


class Backbone(Protocol):
    """A frozen network.

    Attributes:
        name: As `--backbone` takes it.
        source: Where architecture and weights come from.
        licence: The weights' licence, as far as known.
    """

    name: str
    source: str
    licence: str

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input of an RGB image: (3, S, S) float32, scaled without keeping the aspect ratio."""

    def __call__(self, batch: torch.Tensor) -> Maps:
        """Return the maps of a (B, 3, S, S) batch."""
