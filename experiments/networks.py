"""Networks to train: a small one from scratch, or linear heads on the embedded network's features."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from build.networks.backbone import Maps
from build.networks.embedded import EmbeddedBackbone
from mlimagenet_data.embedded import MEAN, STD

__all__ = ["Network", "TrialOutput", "embedded_maps"]


class TrialOutput:
    """A network's outputs for crops, each computed on access.

    Args:
        features: (B, D, g, f).
        network: The network whose heads to apply.
    """

    def __init__(self, features: Tensor, network: Network) -> None:
        self._features, self._network = features, network
        self._means = features.mean(dim=(2, 3))

    @property
    def logits(self) -> Tensor:
        """(B, K), the means of `maps`."""
        out: Tensor = self._network.head(self._means)
        return out

    @property
    def maps(self) -> Tensor:
        """(B, K, g, f), logits per place."""
        out: Tensor = self._network.head(self._features.movedim(1, -1))
        return out.movedim(-1, 1)

    @property
    def points(self) -> Tensor:
        """(B, 2), the predicted click of the annotator, (x, y) as shares of the crop."""
        out: Tensor = self._network.locate(self._means)
        return out


class Network(nn.Module):
    """A body and two linear heads on its features: class logits per place, and a point.

    Args:
        body: Maps inputs to features (B, D, g, f).
        features: D.
        classes: K.
    """

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body, self.head, self.locate = body, nn.Linear(features, classes), nn.Linear(features, 2)

    @classmethod
    def small(cls, classes: int, width: int = 16) -> Network:
        """Return eight 3 x 3 convolutions in four stages, 0.3 million parameters, for (B, 3, H, W) uint8 pixels."""
        layers: list[nn.Module] = [_Scaled()]
        before = 3
        for stage in range(4):
            after = width << stage
            for stride in (2, 1):
                layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
                before = after
        return cls(nn.Sequential(*layers), before, classes).to(memory_format=torch.channels_last)

    @classmethod
    def linear(cls, features: int, classes: int) -> Network:
        """Return the heads alone, for features (B, D, g, f) of any floating type."""
        return cls(_Float(), features, classes)

    def forward(self, inputs: Tensor) -> TrialOutput:
        """Return the outputs for a batch."""
        return TrialOutput(self.body(inputs), self)


class _Scaled(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() - 127) / 64).contiguous(memory_format=torch.channels_last)


class _Float(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.float()


def embedded_maps(pixels: Tensor, size: int) -> Iterator[Maps]:
    """Yield the embedded network's maps of (N, 3, H, W) uint8 pixels in batches, scaled to `size` pixels per side."""
    network = EmbeddedBackbone(size, torch.device("cpu"))
    for part in pixels.split(64):
        scaled = part.float()
        if scaled.shape[2:] != (size, size):
            scaled = interpolate(scaled, size=(size, size), mode="bicubic", antialias=True)
        yield network((scaled - MEAN) / STD)
