"""The embedded ensemble: further small classifiers that give an opinion on the whole photograph.

The networks are timm's EfficientNet-Lite0, -Lite1 and -Lite2. Beside an original label, the geometric mean of all three on
the whole photograph, each at the size it was trained on, tells best which other classes a person would accept; places and
regions scanned at larger sizes are far too sure. A photograph without an original label has many objects to find, so Lite1
and Lite2 look at it place by place, at larger sizes: what they see too is more likely there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F

from build.networks.embedded import LICENCE, normalised, source_of
from build.networks.scaling import bounded_size
from mlimagenet_data.embedded import embedded_network

__all__ = ["EmbeddedEnsemble"]

_WHOLE = {0: 224, 1: 240, 2: 260}  # version: pixels a side that it was trained on
_PLACES = {1: 304, 2: 320}
_WINDOW = 3  # cells a side over which logits are averaged


class EmbeddedEnsemble:
    """Three frozen classifiers.

    Args:
        device: Device to run on.
        max_upscale: See `bounded_size`; the sizes for whole photographs are not bounded.
    """

    def __init__(self, device: torch.device, max_upscale: float = 0.0) -> None:
        self.device, self._max_upscale = device, max_upscale
        self._models = {
            version: embedded_network(version=version).eval().to(device, memory_format=torch.channels_last)
            for version in _WHOLE
        }

    def credits(self) -> list[dict[str, str]]:
        """Return the source and licence of each network."""
        return [{"source": source_of(version), "licence": LICENCE} for version in self._models]

    def input_sizes(self, image: Image.Image, *, has_label: bool) -> tuple[int, ...]:
        """Return the sides of the squares to which an image is scaled, in pixels: one for each network.

        Args:
            image: The image.
            has_label: Whether it has an original label: `see_whole` takes such an image, `see_places` any other.
        """
        if has_label:
            return tuple(_WHOLE.values())
        return tuple(bounded_size(size, image, self._max_upscale) for size in _PLACES.values())

    @torch.inference_mode()
    def see_whole(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Return the networks' normalised geometric mean of probabilities for whole images.

        Args:
            batches: One (B, 3, S, S) uint8 batch per network.

        Returns:
            (B, K) float32 on the device.
        """
        models = [self._models[version] for version in _WHOLE]
        found = [self._each(_whole, model, batch) for model, batch in zip(models, batches, strict=True)]
        return torch.stack(found).mean(dim=0).softmax(dim=1)

    @torch.inference_mode()
    def see_places(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Return the mean over networks of each class's probability in its best place.

        Args:
            batches: One (B, 3, S, S) uint8 batch per network.

        Returns:
            (B, K) float32 on the device.
        """
        models = [self._models[version] for version in _PLACES]
        found = [self._each(_best_place, model, batch) for model, batch in zip(models, batches, strict=True)]
        return torch.stack(found).mean(dim=0)

    def _each(self, see: Callable[[Any, torch.Tensor], torch.Tensor], model: Any, batch: torch.Tensor) -> torch.Tensor:
        """Return (B, K). The CPU runs one image at a time, so that the result is bit-identical in every batch."""
        parts = torch.split(batch, 1) if self.device.type == "cpu" else [batch]
        return torch.cat([see(model, normalised(part, self.device)) for part in parts])


def _whole(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Return log probabilities."""
    logits: torch.Tensor = model(batch)
    return logits.float().log_softmax(dim=1)


def _best_place(model: Any, batch: torch.Tensor) -> torch.Tensor:
    features = model.forward_features(batch)
    logits = F.conv2d(features, model.classifier.weight[:, :, None, None], model.classifier.bias).float()
    window = min(_WINDOW, *logits.shape[2:])
    return F.avg_pool2d(logits, window, 1).softmax(dim=1).flatten(2).amax(dim=2)
