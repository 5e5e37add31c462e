"""Input sizes bounded by the photograph's own: pixels that it does not have show nothing, and cost time."""

from __future__ import annotations

import math

from PIL import Image

__all__ = ["LEAST", "bounded_size"]

LEAST = 128  # pixels a side; below it, networks have too few places
_STEP = 32  # pixels between two places of a convolutional network's label map


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
