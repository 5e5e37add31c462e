import numpy as np
import pytest
import torch
from PIL import Image

from build.models.embedded import _load_by_order, embedded_weights
from build.models.labeler import LinearHead, train_head


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
