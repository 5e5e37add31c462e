"""The networks' inputs: photographs scaled to squares of bytes, which are normalised where the network runs.

A byte a value travels to a GPU, not four, and networks that take the same size share one input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn

from build.networks.backbone import Backbone

__all__ = ["LEAST", "Normalise", "Scale", "bounded_size", "input_of", "scaled", "scaled_once"]

LEAST = 128  # pixels a side; below it, networks have too few places
_STEP = 32  # pixels between two places of a convolutional network's label map

Scale = Callable[[int], torch.Tensor]


def bounded_size(size: int, image: Image.Image, max_upscale: float) -> int:
    """Return the input size for an image: `size`, or less if the image is small.

    Args:
        size: Wanted side in pixels.
        image: The photograph.
        max_upscale: Largest size as a multiple of the photograph's longer side, rounded up to a multiple of 32 and to at
            least 128. 0: no bound.
    """
    if not max_upscale:
        return size
    return min(size, max(LEAST, math.ceil(max_upscale * max(image.size) / _STEP) * _STEP))


def scaled(image: Image.Image, size: int) -> torch.Tensor:
    """Scale an RGB image to a square without keeping its aspect ratio: (3, size, size) uint8."""
    return torch.from_numpy(np.array(image.resize((size, size), Image.Resampling.BICUBIC))).permute(2, 0, 1)


def scaled_once(image: Image.Image) -> Scale:
    """Return a function that scales an image to a size, and returns the same tensor if asked again."""
    known: dict[int, torch.Tensor] = {}

    def scale(size: int) -> torch.Tensor:
        if size not in known:
            known[size] = scaled(image, size)
        return known[size]

    return scale


def input_of(network: Backbone, image: Image.Image) -> torch.Tensor:
    """Return a network's input for an RGB image: (3, S, S) uint8."""
    return scaled(image, network.input_size(image))


class Normalise(nn.Module):
    """Turns bytes into what a network was trained on: (pixels / 255 - mean) / std; floats are taken as normalised already.

    Args:
        mean: Of each channel, from 0 to 1.
        std: Of each channel.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return a (B, 3, S, S) batch as float32."""
        return batch if batch.is_floating_point() else (batch.float() / 255 - self.mean) / self.std
