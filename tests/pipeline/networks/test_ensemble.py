from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image

from build.networks.ensemble import EmbeddedEnsemble
from build.networks.scaling import scaled
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.embedded import embedded_network
from mlimagenet_data.images import load_image

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ensemble():
    return EmbeddedEnsemble(CPU)


def photograph(name):
    with resources.as_file(resources.files("skimage").joinpath("data", name)) as path:
        return load_image(path)


def prepared(ensemble, image, *, has_label):
    return [scaled(image, size) for size in ensemble.input_sizes(image, has_label=has_label)]


def opinion(ensemble, *images, has_label=True):
    inputs = [prepared(ensemble, image, has_label=has_label) for image in images]
    batches = [torch.stack(tensors) for tensors in zip(*inputs, strict=True)]
    return ensemble.see_whole(batches) if has_label else ensemble.see_places(batches)


def test_the_whole_images_opinion_is_the_normalised_geometric_mean_of_three_networks(ensemble):
    image = photograph("coffee.png")
    product = np.ones(1000)
    for version, batch in enumerate(prepared(ensemble, image, has_label=True)):
        with torch.inference_mode():
            logits = embedded_network(version=version).eval()((batch[None] - 127.0) / 128)[0].double().numpy()
        odds = np.exp(logits - logits.max())
        product *= (odds / odds.sum()) ** (1 / 3)
    found = opinion(ensemble, image)[0].numpy()
    np.testing.assert_allclose(found, product / product.sum(), atol=1e-5)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def slow_places(model, tensor):
    """Each class's largest probability over windows of 3 x 3 cells, one window at a time."""
    with torch.inference_mode():
        features = model.forward_features((tensor[None] - 127.0) / 128)[0].double().numpy()
    weight, bias = (values.detach().double().numpy() for values in (model.classifier.weight, model.classifier.bias))
    logits = np.einsum("kd,dhw->khw", weight, features) + bias[:, None, None]
    best = np.zeros(len(weight))
    for top in range(logits.shape[1] - 2):
        for left in range(logits.shape[2] - 2):
            mean = logits[:, top : top + 3, left : left + 3].mean(axis=(1, 2))
            odds = np.exp(mean - mean.max())
            best = np.maximum(best, odds / odds.sum())
    return best


def test_the_opinion_on_places_is_the_mean_of_two_networks_best_windows(ensemble):
    image = photograph("chelsea.png")
    tensors = prepared(ensemble, image, has_label=False)
    expected = [
        slow_places(embedded_network(version=version).eval(), tensor)
        for version, tensor in zip((1, 2), tensors, strict=True)
    ]
    np.testing.assert_allclose(opinion(ensemble, image, has_label=False)[0], np.mean(expected, axis=0), atol=1e-4)


def sizes(ensemble, image, *, has_label):
    return [tuple(tensor.shape) for tensor in prepared(ensemble, image, has_label=has_label)]


def test_each_network_sees_the_whole_image_at_the_size_it_was_trained_on_and_places_at_a_larger_one(ensemble):
    image = Image.new("RGB", (300, 200))
    whole = [(3, 224, 224), (3, 240, 240), (3, 260, 260)]
    assert sizes(ensemble, image, has_label=True) == whole
    assert sizes(ensemble, image, has_label=False) == [(3, 304, 304), (3, 320, 320)]
    bounded = EmbeddedEnsemble(CPU, 1.0)
    assert sizes(bounded, Image.new("RGB", (100, 150)), has_label=True) == whole
    assert sizes(bounded, Image.new("RGB", (100, 150)), has_label=False) == [(3, 160, 160)] * 2
    assert sizes(bounded, Image.new("RGB", (310, 150)), has_label=False) == [(3, 304, 304), (3, 320, 320)]


@pytest.mark.parametrize(("name", "word"), [("coffee.png", "espresso"), ("chelsea.png", "cat")])
def test_whole_photographs_are_recognised(ensemble, name, word):
    assert word in imagenet_classes().names[int(opinion(ensemble, photograph(name)).argmax())]


@pytest.mark.parametrize("has_label", [True, False])
def test_an_image_gets_the_same_bits_alone_and_in_a_batch(ensemble, has_label):
    images = [photograph(name) for name in ("coffee.png", "chelsea.png", "rocket.jpg")]
    together = opinion(ensemble, *images, has_label=has_label)
    assert together.shape == (3, 1000)
    for k, image in enumerate(images):
        assert torch.equal(opinion(ensemble, image, has_label=has_label)[0], together[k])
