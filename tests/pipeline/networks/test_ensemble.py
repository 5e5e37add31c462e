from importlib import resources

import pytest
import torch
from PIL import Image

from build.config.options import BuildConfig
from build.images.reader import ImageReader
from build.images.sources import list_images
from build.networks.ensemble import EmbeddedEnsemble
from build.networks.forward import Clock, Forward
from build.region_batch import make_rows
from build.stages.regions import find_regions
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.embedded import embedded_network
from mlimagenet_data.images import load_image


@pytest.fixture(scope="module")
def ensemble():
    return EmbeddedEnsemble(torch.device("cpu"))


def photograph(name):
    with resources.as_file(resources.files("skimage").joinpath("data", name)) as path:
        return load_image(path)


def probabilities(ensemble, *images):
    inputs = [ensemble.prepare(image) for image in images]
    return ensemble([torch.stack(tensors) for tensors in zip(*inputs, strict=True)])


def test_the_probabilities_are_the_mean_of_the_three_networks(ensemble):
    image = photograph("coffee.png")
    expected = []
    for version, batch in enumerate(ensemble.prepare(image)):
        with torch.inference_mode():
            expected.append(embedded_network(version=version).eval()(batch[None]).softmax(dim=1))
    found = probabilities(ensemble, image)
    torch.testing.assert_close(found, torch.stack(expected).mean(dim=0), atol=1e-5, rtol=0)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


def test_each_network_sees_the_image_at_the_size_it_was_trained_on(ensemble):
    assert [tuple(t.shape) for t in ensemble.prepare(Image.new("RGB", (300, 200)))] == [
        (3, 224, 224), (3, 240, 240), (3, 260, 260),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "word"), [("coffee.png", "espresso"), ("chelsea.png", "cat")])
def test_whole_photographs_are_recognised(ensemble, name, word):
    assert word in imagenet_classes().names[int(probabilities(ensemble, photograph(name)).argmax())]


def test_an_image_gets_the_same_bits_alone_and_in_a_batch(ensemble):
    images = [photograph(name) for name in ("coffee.png", "chelsea.png", "rocket.jpg")]
    together = probabilities(ensemble, *images)
    for k, image in enumerate(images):
        assert torch.equal(probabilities(ensemble, image)[0], together[k])


def test_only_images_with_an_original_label_go_through_the_ensemble(tmp_path):
    root = tmp_path / "photos"
    for folder, size in (("n01440764", 40), ("n01443537", 50)):
        (root / folder).mkdir(parents=True)
        Image.new("RGB", (size, size), (size, 90, 90)).save(root / folder / "a.png")
    (root / "n01440764" / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (30, 30)).save(root / "plain.png")
    config = BuildConfig(images=str(root), image_size=64, scan_size=0, device="cpu")
    listing, forward = list_images(str(root), split="train"), Forward(config)
    (batch,) = forward.batches(listing.images[:], ImageReader(listing.root), Clock())
    forward.close()
    labelled = [image.label is not None for image in batch.readable]
    assert sorted(labelled) == [False, True, True]
    assert batch.whole.isfinite().all(dim=1).tolist() == labelled
    rows = make_rows(batch.images, batch.decoded, find_regions(batch, config))
    assert {row.image_id: row.whole_classes is not None for row in rows} == {
        "n01440764/a": True, "n01440764/broken": False, "n01443537/a": True, "plain": False,
    }  # fmt: skip
    assert all(row.label in row.whole_classes for row in rows if row.whole_classes)
