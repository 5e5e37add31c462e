"""The embedded ensemble: what three small classifiers, each at the size it was trained on, see in the whole photograph.

A whole photograph at its own size tells best which other classes a person would accept beside its original label; places and
regions scanned at larger sizes are far too sure. The networks are timm's EfficientNet-Lite0, -Lite1 and -Lite2.
"""

from __future__ import annotations

import torch
from PIL import Image

from build.networks.embedded import LICENCE, scaled_pixels, source_of
from mlimagenet_data.embedded import embedded_network

__all__ = ["EmbeddedEnsemble"]

_SIZES = (224, 240, 260)  # pixels a side that Lite0, Lite1 and Lite2 were trained on


class EmbeddedEnsemble:
    """Three frozen classifiers whose probabilities are averaged.

    Args:
        device: Device to run on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._models = [
            embedded_network(version=version).eval().to(device, memory_format=torch.channels_last)
            for version in range(len(_SIZES))
        ]

    def credits(self) -> list[dict[str, str]]:
        """Return the source and licence of each network."""
        return [{"source": source_of(version), "licence": LICENCE} for version in range(len(_SIZES))]

    def prepare(self, image: Image.Image) -> tuple[torch.Tensor, ...]:
        """Return each network's input for an RGB image: (3, S, S) float32, scaled without keeping the aspect ratio."""
        return tuple(scaled_pixels(image, size) for size in _SIZES)

    @torch.inference_mode()
    def __call__(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Return the mean probabilities, (B, K) float32 on the device, of one (B, 3, S, S) batch per network.

        The CPU runs one image at a time, so that the result is bit-identical in every batch.
        """
        found = []
        for model, batch in zip(self._models, batches, strict=True):
            parts = torch.split(batch, 1) if self.device.type == "cpu" else [batch]
            logits = [model(part.to(self.device, memory_format=torch.channels_last)).float() for part in parts]
            found.append(torch.cat(logits).softmax(dim=1))
        return torch.stack(found).mean(dim=0)
