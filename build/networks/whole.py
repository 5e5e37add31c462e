"""A timm classifier of the whole image, with average pooling or a class token, at the size it was trained on."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from build.networks.scaling import Normalise
from build.networks.timm_backbone import create_model, dtype_of
from mlimagenet_data.classes import NUM_CLASSES

__all__ = ["WholeClassifier"]


class WholeClassifier:
    """A classifier that gives each image one probability per class; it stands in the place of `EmbeddedEnsemble`.

    Args:
        name: timm's name.
        device: Device to run on.
        weights: See `TimmBackbone`.
        precision: See `TimmBackbone`.

    Raises:
        ConfigError: If timm does not know the name, or its weights are for other classes.
    """

    def __init__(self, name: str, device: torch.device, *, weights: str = "hub", precision: str = "auto") -> None:
        import timm

        known = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
        self._size = int(known.input_size[-1]) if known else 224
        model, source, licence = create_model("classifier", name, self._size, weights, classes=NUM_CLASSES)
        self.device, self._dtype, self._credit = (
            device,
            dtype_of(precision, device),
            {"source": source, "licence": licence},
        )
        self._normalise = Normalise(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]).to(device)
        self._model: Any = model.eval().to(device, self._dtype)

    def credits(self) -> list[dict[str, str]]:
        """Return the network's source and licence."""
        return [self._credit]

    def input_sizes(self, image: Image.Image, *, has_label: bool) -> tuple[int, ...]:
        """Return the side of the square to which an image is scaled, in pixels."""
        return (self._size,)

    @torch.inference_mode()
    def see_whole(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Return the probabilities (B, K) of whole images, for one (B, 3, S, S) batch; float32 on the device."""
        logits: torch.Tensor = self._model(self._normalise(batches[0].to(self.device)).to(self._dtype))
        return logits.float().softmax(dim=1)

    def see_places(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Return the same: a class is as likely in its best place as in the image."""
        return self.see_whole(batches)
