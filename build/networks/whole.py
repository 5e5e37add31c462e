"""A timm classifier of the whole image, with average pooling or a class token, at the size it was trained on."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from build.networks.timm_backbone import autocast, create_model, prepare
from mlimagenet_data.classes import NUM_CLASSES

__all__ = ["WholeClassifier"]


class WholeClassifier:
    """A classifier that gives each image one probability per class; it stands in the place of `EmbeddedEnsemble`.

    Args:
        name: timm's name.
        device: Device to run on.
        weights: See `TimmBackbone`.
        precision: `fp32`, or `bf16` or `fp16` for autocast.

    Raises:
        ConfigError: If timm does not know the name, or its weights are for other classes.
    """

    def __init__(self, name: str, device: torch.device, *, weights: str = "hub", precision: str = "fp32") -> None:
        import timm

        known = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
        self._size = int(known.input_size[-1]) if known else 224
        model, source, licence = create_model("classifier", name, self._size, weights, classes=NUM_CLASSES)
        self.device, self._dtype, self._credit = device, precision, {"source": source, "licence": licence}
        self._normalise = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
        self._model: Any = model.eval().to(device)

    def credits(self) -> list[dict[str, str]]:
        """Return the network's source and licence."""
        return [self._credit]

    def prepare(self, image: Image.Image, *, has_label: bool) -> tuple[torch.Tensor, ...]:
        """Return the network's input for an RGB image: (3, S, S) float32, scaled without keeping the aspect ratio."""
        return (prepare(image, self._size, *self._normalise),)

    @torch.inference_mode()
    def see_whole(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Return the probabilities (B, K) of whole images, for one (B, 3, S, S) batch; float32 on the device."""
        with autocast(self.device, self._dtype):
            logits: torch.Tensor = self._model(batches[0].to(self.device))
        return logits.float().softmax(dim=1)

    def see_places(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Return the same: a class is as likely in its best place as in the image."""
        return self.see_whole(batches)
