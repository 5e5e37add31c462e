"""Input sizes bounded by the photograph's own size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from build.networks.classifier import TimmClassifier
from build.networks.embedded import EmbeddedBackbone
from build.networks.scaling import LEAST, bounded_size, input_of

CPU = torch.device("cpu")
sides = st.integers(1, 1000)


@pytest.mark.parametrize(
    ("size", "image", "max_upscale", "expected"),
    [
        (640, (500, 375), 1.5, 640),  # 750 would be allowed
        (640, (300, 200), 1.5, 480),  # 450, rounded up to a multiple of 32
        (640, (200, 300), 1.5, 480),  # the longer side counts
        (640, (320, 10), 1.5, 480),  # exactly 480
        (640, (321, 10), 1.5, 512),
        (640, (20, 30), 1.5, 128),  # never less than 128
        (384, (256, 256), 1.0, 256),
        (96, (20, 30), 1.5, 96),  # unless less is wanted
        (640, (20, 30), 0.0, 640),  # no bound
    ],
)
def test_a_size_is_bounded_by_the_longer_side(size, image, max_upscale, expected):
    assert bounded_size(size, Image.new("RGB", image), max_upscale) == expected


@given(st.integers(32, 1024), sides, sides, st.floats(0.01, 16))
def test_a_bounded_size_is_the_least_that_shows_all_pixels(size, width, height, max_upscale):
    found = bounded_size(size, Image.new("L", (width, height)), max_upscale)
    wanted = max_upscale * max(width, height)
    assert found <= size
    assert found == size or (found % 32 == 0 and found >= max(LEAST, wanted))
    assert found <= LEAST or found - 32 < wanted


def test_networks_scale_a_small_photograph_less():
    small, large = Image.new("RGB", (100, 60)), Image.new("RGB", (400, 300))
    networks = (
        lambda bound: EmbeddedBackbone(224, CPU, bound),
        lambda bound: TimmClassifier("resnet10t", 224, CPU, weights="random", max_upscale=bound),
    )
    for network in networks:
        bounded = network(1.5)
        assert input_of(bounded, small).shape == (3, 160, 160)
        assert input_of(bounded, large).shape == (3, 224, 224)
        assert input_of(network(0.0), small).shape == (3, 224, 224)
        assert bounded(input_of(bounded, small)[None]).label_maps[0].shape == (1, 1000, 5, 5)


def test_a_transformer_takes_one_size_only():
    found = TimmClassifier("swin_tiny_patch4_window7_224", 224, CPU, weights="random", max_upscale=1.5)
    assert input_of(found, Image.new("RGB", (50, 50))).shape == (3, 224, 224)
