import numpy as np
import pytest
import scipy.special
import torch
from PIL import Image

from build.models.embedded import EmbeddedBackbone, _load_by_order, embedded_weights
from build.models.labeler import LinearHead, train_head
from build.ops.pooling import pool, region_weights, softmax
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.images import load_image


def test_region_weights_are_fractional_covers():
    mask = np.zeros((6, 6), bool)
    mask[:3, :4] = True
    weights = region_weights([mask], (4, 4)).reshape(2, 4, 4)
    fine = mask.repeat(4, 0).repeat(4, 1).reshape(4, 6, 4, 6).mean(axis=(1, 3))
    np.testing.assert_allclose(weights[0], fine / fine.sum(), atol=1e-6)
    np.testing.assert_allclose(weights[1], 1 / 16)


def test_pooling_logits_equals_logits_of_pooled_features():
    generator = np.random.default_rng(0)
    features = generator.random((8, 5, 5)).astype(np.float32)
    head = LinearHead(generator.normal(size=(7, 8)).astype(np.float32), generator.normal(size=7).astype(np.float32))
    weights = region_weights([generator.random((9, 9)) < 0.4], (5, 5))
    label_map = np.einsum("kc,chw->khw", head.weight, features) + head.bias[:, None, None]
    np.testing.assert_allclose(pool(label_map, weights), head.logits(pool(features, weights)), atol=1e-5)


def test_softmax_is_that_of_scipy_and_does_not_overflow():
    logits = np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32) * 400
    np.testing.assert_allclose(
        softmax(logits, 0.5), scipy.special.softmax(logits.astype(float) / 0.5, axis=-1), atol=1e-6
    )


@pytest.fixture(scope="module")
def backbone():
    return EmbeddedBackbone(384, torch.device("cpu"))


def demo_photo(name):
    from importlib import resources

    with resources.as_file(resources.files("skimage").joinpath("data", name)) as path:
        return load_image(path)


@pytest.mark.parametrize(("name", "word"), [("coffee.png", "espresso"), ("chelsea.png", "cat")])
def test_the_embedded_network_recognises_the_demo(backbone, name, word):
    maps = backbone(backbone.prepare(demo_photo(name))[None])
    assert maps.patches.shape == (1, 112, 24, 24)
    assert maps.features.shape == (1, 1280, 12, 12)
    assert maps.label_map.shape == (1, 1000, 12, 12)
    logits = maps.label_map.mean(dim=(2, 3))[0]
    assert word in imagenet_classes().names[int(logits.argmax())]


def test_the_label_maps_mean_is_the_networks_own_answer(backbone):
    batch = backbone.prepare(demo_photo("rocket.jpg"))[None]
    with torch.no_grad():
        expected = backbone._model(batch)
    torch.testing.assert_close(backbone(batch).label_map.mean(dim=(2, 3)), expected, atol=1e-3, rtol=1e-3)


def test_any_image_becomes_a_square_input(backbone):
    tensor = backbone.prepare(Image.new("RGB", (5000, 80), (255, 127, 0)))
    assert tensor.shape == (3, 384, 384)
    assert tensor[:, 0, 0].tolist() == [1.0, 0.0, -127 / 128]


def test_other_weights_are_refused(backbone):
    state = torch.load(embedded_weights(), weights_only=True)
    state.popitem()
    with pytest.raises(RuntimeError, match="tf_efficientnet_lite0"):
        _load_by_order(backbone._model, state)


def toy_shards():
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 3, 120)
    features = (np.eye(3)[classes] + generator.normal(scale=0.1, size=(120, 3))).astype(np.float32)
    return lambda k: (features[k * 40 : k * 40 + 40], classes[k * 40 : k * 40 + 40])


def trained(seed, **options):
    start = LinearHead(np.zeros((3, 3), np.float32), np.zeros(3, np.float32))
    defaults = {"epochs": 30, "learning_rate": 0.05, "batch_size": 16, "temperature": 1.0}
    return train_head(start, 3, toy_shards(), seed=seed, **{**defaults, **options})


def test_training_learns_and_is_repeatable(tmp_path):
    head = trained(0)
    features, classes = toy_shards()(1)
    assert (head.logits(features).argmax(axis=1) == classes).mean() > 0.95
    np.testing.assert_array_equal(head.weight, trained(0).weight)
    assert not np.array_equal(head.weight, trained(1).weight)
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(LinearHead.load(tmp_path / "head.safetensors").weight, head.weight)


def test_a_diverging_training_is_an_error():
    with pytest.raises(FloatingPointError, match="learning rate"):
        trained(0, learning_rate=float("inf"))
