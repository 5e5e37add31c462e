"""The interface of a frozen network: the maps that it returns for a batch of images."""

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
        features: One (B, D, h', w') float32 tensor per input size; the labeler reads each region's mean feature,
            averaged over these maps.
        label_maps: (B, K, h', w') float32 logits each, one map per input size, of a classifier applied at each
            location; empty for a network without a classifier.
        augmented: For each version of the images that was changed at random: features (B, D, h', w') and the places
            (B, 2, 3) that they come from, as `build.ops.patches.moved` takes them.
    """

    patches: torch.Tensor
    features: tuple[torch.Tensor, ...]
    label_maps: tuple[torch.Tensor, ...]
    augmented: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    def to(self, device: torch.device) -> Maps:
        """Return the same maps on another device."""
        features, label_maps = (tuple(m.to(device) for m in maps) for maps in (self.features, self.label_maps))
        augmented = tuple((found.to(device), places.to(device)) for found, places in self.augmented)
        return Maps(self.patches.to(device), features, label_maps, augmented)


class Backbone(Protocol):
    """A frozen network.

    Attributes:
        name: The name that `--backbone` takes.
        source: Origin of architecture and weights.
        licence: Licence of the weights, as far as known.
    """

    name: str
    source: str
    licence: str

    def input_size(self, image: Image.Image) -> int:
        """Return the side S of the square to which an image is scaled, in pixels."""

    def __call__(self, batch: torch.Tensor) -> Maps:
        """Return the maps of a (B, 3, S, S) batch: uint8 pixels, or floats that are normalised already."""
