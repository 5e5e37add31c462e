"""Random crops, turns and colours of images, in the ranges of the authors' scripts of arXiv 2603.05729.

Each draw is one affine map from the new image to the old one, so that masks can follow it exactly. Written from the
scripts' settings: a crop of 8% to 100% of the area with a ratio of 3/4 to 4/3; a flip; a shift of up to 5%, a zoom of up to
10% and a turn of up to 20 degrees; brightness, contrast, hue, saturation and noise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["augmented"]

_TRIES = 10  # for a crop that fits into the image, before the whole image is taken
_IDENTITY = np.eye(3)


def augmented(image: Image.Image, size: int, random: np.random.Generator) -> tuple[Image.Image, NDArray[np.float32]]:
    """Return an RGB image cropped, turned and recoloured at random, and where its places come from.

    Args:
        image: An RGB image.
        size: Side of the returned image in pixels; what lies outside the given image is black.
        random: Source of randomness.

    Returns:
        The new image, and (2, 3): it maps the place (x, y, 1) in the new image to (x, y) in the old one, both as shares
        of width and height.
    """
    places = _crop(image.width / image.height, random) @ _turn(random)  # the turn is of the cropped image
    to_pixels = np.diag([image.width, image.height, 1.0]) @ places @ np.diag([1 / size, 1 / size, 1.0])
    moved = image.transform(
        (size, size), Image.Transform.AFFINE, to_pixels[:2].ravel().tolist(), Image.Resampling.BILINEAR
    )
    return _recoloured(moved, random), places[:2].astype(np.float32)


def _crop(ratio: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Return the map of a random crop, flipped half the time, of an image of a ratio of width to height."""
    width = height = 1.0
    for _ in range(_TRIES):
        area, shape = random.uniform(0.08, 1.0), math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = math.sqrt(area * shape / ratio), math.sqrt(area / shape * ratio)
        if wide <= 1 and high <= 1:
            width, height = wide, high
            break
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    flip = random.random() < 0.5
    return np.array([[-width if flip else width, 0, left + width * flip], [0, height, top], [0, 0, 1.0]])


def _turn(random: np.random.Generator) -> NDArray[np.float64]:
    """Return the map of a random shift, zoom and turn about the centre; none for 3 of 10 images."""
    if random.random() >= 0.7:
        return _IDENTITY
    angle, zoom = math.radians(random.uniform(-20, 20)), random.uniform(0.9, 1.1)
    (right, down), (c, s) = random.uniform(-0.05, 0.05, 2), (math.cos(angle) / zoom, math.sin(angle) / zoom)
    about = np.array([[c, -s, 0.5 - right], [s, c, 0.5 - down], [0, 0, 1.0]])
    return np.asarray(about @ np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]]))


def _recoloured(image: Image.Image, random: np.random.Generator) -> Image.Image:
    if random.random() < 0.3:
        shifts = random.uniform(-1, 1, 3) * (255 * 20 / 180, 30, 20)
        hsv = np.asarray(image.convert("HSV"), np.float64) + shifts
        hsv = np.stack((hsv[..., 0] % 256, *np.clip(hsv[..., 1:], 0, 255).transpose(2, 0, 1)), axis=2)
        image = Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB")
    pixels = np.asarray(image, np.float32)
    if random.random() < 0.4:
        contrast, brightness = random.uniform(-0.2, 0.2, 2)
        pixels = pixels * (1 + contrast) + 255 * brightness
    if random.random() < 0.2:
        pixels = pixels + random.normal(0, math.sqrt(random.uniform(10, 30)), pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
