import numpy as np
import pytest
import torch
from PIL import Image

from build.images.augment import augmented
from build.ops.patches import moved


def coordinates(width, height):
    """An image whose red and green are the place of each pixel's centre as shares of width and height."""
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    pixels = np.stack((*np.broadcast_arrays(255 * x, 255 * y[:, None]), np.full((height, width), 255)), axis=2)
    return Image.fromarray(pixels.round().astype(np.uint8))


@pytest.mark.parametrize("seed", range(8))
def test_the_map_says_where_each_place_comes_from(seed, monkeypatch):
    monkeypatch.setattr("build.images.augment._recoloured", lambda image, random: image)
    found, places = augmented(coordinates(300, 200), 64, np.random.default_rng(seed))
    pixels = np.asarray(found, float) / 255
    x, y = np.meshgrid((np.arange(64) + 0.5) / 64, (np.arange(64) + 0.5) / 64)
    wanted = np.einsum("ij,jhw->hwi", places, np.stack((x, y, np.ones_like(x))))
    inside = ((wanted > 0.01) & (wanted < 0.99)).all(axis=2)
    assert inside.mean() > 0.5
    assert np.abs(pixels[..., :2] - wanted)[inside].max() < 0.01
    outside = ((wanted < -0.01) | (wanted > 1.01)).any(axis=2)
    assert (pixels[outside] == 0).all()


def test_masks_follow_the_pixels(monkeypatch):
    monkeypatch.setattr("build.images.augment._recoloured", lambda image, random: image)
    mask = np.zeros((40, 40), bool)
    mask[5:20, 10:30], mask[30, 30] = True, True
    image = Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)).resize((400, 400), 0)
    for seed in range(8):
        shown, places = augmented(image, 32, np.random.default_rng(seed))
        found = moved(torch.from_numpy(mask)[None, None], torch.from_numpy(places)[None], (32, 32))[0, 0]
        assert (found.numpy() == (np.asarray(shown)[..., 0] > 127)).mean() > 0.97


def test_draws_vary_and_repeat_with_the_seed():
    image = coordinates(120, 80)
    shown = [np.asarray(augmented(image, 32, np.random.default_rng(seed))[0]) for seed in (0, 0, *range(1, 30))]
    assert np.array_equal(shown[0], shown[1])
    assert len({one.tobytes() for one in shown}) == 30
