from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image

from build.networks.embedded import EmbeddedBackbone, normalised
from build.networks.scaling import input_of
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.embedded import embedded_weights
from mlimagenet_data.images import load_image


def photograph(name):
    with resources.as_file(resources.files("skimage").joinpath("data", name)) as path:
        return load_image(path)


def test_every_weight_is_finite_and_loaded(backbone):
    stored = list(torch.load(embedded_weights(), weights_only=True).values())
    loaded = list(backbone._model.state_dict().values())
    assert len(stored) == len(loaded) > 200
    for one, other in zip(stored, loaded, strict=True):
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["coffee.png", "rocket.jpg"])
def test_the_label_maps_mean_equals_timms_forward(backbone, name):
    batch = input_of(backbone, photograph(name))[None]
    with torch.inference_mode():
        expected = backbone._model((batch - 127.0) / 128)
    torch.testing.assert_close(backbone(batch).label_maps[0].mean(dim=(2, 3)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "word"), [("coffee.png", "espresso"), ("chelsea.png", "cat")])
def test_whole_photographs_are_recognised(backbone, name, word):
    maps = backbone(input_of(backbone, photograph(name))[None])
    best = int(maps.label_maps[0].mean(dim=(2, 3)).argmax())
    assert word in imagenet_classes().names[best]


@pytest.mark.parametrize(("size", "grid"), [(384, 24), (256, 16), (64, 4)])
def test_maps_have_a_16th_and_a_32nd_of_the_images_side(size, grid):
    backbone = EmbeddedBackbone(size, torch.device("cpu"))
    maps = backbone(input_of(backbone, photograph("coffee.png"))[None].repeat(2, 1, 1, 1))
    assert maps.patches.shape == (2, 112, grid, grid)
    assert maps.features[0].shape == (2, 1280, grid // 2, grid // 2)
    assert maps.label_maps[0].shape == (2, 1000, grid // 2, grid // 2)


def test_the_label_map_is_the_head_at_each_place(backbone):
    maps = backbone(input_of(backbone, photograph("chelsea.png"))[None])
    weight, bias = backbone.head
    expected = weight @ maps.features[0][0, :, 5, 7].numpy() + bias
    np.testing.assert_allclose(maps.label_maps[0][0, :, 5, 7].numpy(), expected, atol=1e-4)


def test_an_image_gets_the_same_maps_alone_and_in_a_batch(backbone):
    batch = torch.stack([input_of(backbone, photograph(name)) for name in ("coffee.png", "chelsea.png", "rocket.jpg")])
    together = backbone(batch)
    alone = backbone(batch[1:2])
    torch.testing.assert_close(together.patches[1], alone.patches[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.label_maps[0][1], alone.label_maps[0][0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (5000, 80), (384, 384)])
def test_any_image_is_scaled_to_a_square_and_normalised_where_the_network_runs(backbone, size):
    tensor = input_of(backbone, Image.new("RGB", size, (255, 127, 0)))
    assert tensor.dtype == torch.uint8
    expected = torch.tensor([1.0, 0.0, -127 / 128])[None, :, None, None].expand(1, 3, 384, 384)
    assert torch.equal(normalised(tensor[None], torch.device("cpu")), expected)
    assert torch.equal(normalised(expected, torch.device("cpu")), expected)


def lose_one(state):
    state.popitem()


def reshape_one(state):
    name = next(iter(state))
    state[name] = state[name][:-1]


@pytest.mark.parametrize("change", [lose_one, reshape_one])
def test_weights_of_another_network_are_refused_by_name(tmp_path, monkeypatch, change):
    state = torch.load(embedded_weights(), weights_only=True)
    change(state)
    torch.save(state, tmp_path / "other.pth")
    monkeypatch.setattr("mlimagenet_data.embedded.embedded_weights", lambda version: tmp_path / "other.pth")
    with pytest.raises(RuntimeError, match=r"other\.pth.*tf_efficientnet_lite0"):
        EmbeddedBackbone(384, torch.device("cpu"))
