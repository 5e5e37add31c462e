"""Batches of photographs that differ in kind: size, with or without an original label, broken."""

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from build import BuildConfig, relabel
from build.images.listing import ImageInput
from build.images.reader import ImageReader
from build.images.sources import list_images
from build.networks.forward import Clock, Forward
from build.records import RegionsRow, read_rows
from build.region_batch import make_rows
from build.stages.regions import find_regions
from mlimagenet_data.errors import ImageError

PHOTOGRAPHS = {
    "n01440764/a.png": (40, 40),
    "n01440764/broken.png": None,
    "n01440764/c.png": (150, 90),
    "n01443537/a.png": (50, 30),
    "plain.png": (30, 30),
    "plain_larger.png": (120, 200),
    "z_broken.png": None,
}
SIZES = {"image_size": 160, "scan_size": 224}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name, size in PHOTOGRAPHS.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        if size is None:
            path.write_bytes(b"no image")
        else:
            coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return root


def batches_of(root, **options):
    config = BuildConfig(images=str(root), device="cpu", **{**SIZES, **options})
    listing, forward = list_images(str(root), split="train"), Forward(config)
    found = list(forward.batches(listing.images[:], ImageReader(listing.root), Clock()))
    forward.close()
    return config, listing, found


def test_a_batch_has_inputs_of_the_same_sizes_and_labels_for_all_images_or_none(root):
    _, listing, batches = batches_of(root)
    assert sorted(image.image_id for batch in batches for image in batch.images) == sorted(
        image.image_id for image in listing.images
    )
    for batch in batches:
        assert len({image.label is None for image in batch.images}) == 1
        assert len({tuple(tensor.shape for tensor in one.tensors) for one in batch.decoded}) == 1
    together = [[image.image_id for image in batch.images] for batch in batches if len(batch.images) > 1]
    assert together == [["n01440764/a", "n01443537/a"]]


def test_a_photograph_that_is_too_small_for_a_second_size_is_seen_once(root):
    maps_of = {
        image.image_id: [m.shape[2] for m in batch.maps.label_maps]
        for batch in batches_of(root)[2]
        for image in batch.readable
    }
    assert maps_of == {
        "n01440764/a": [4], "n01443537/a": [4], "plain": [4],  # at the least size, 128, both times
        "n01440764/c": [5, 7], "plain_larger": [5, 7],  # 160 and 224
    }  # fmt: skip
    unbounded = batches_of(root, max_upscale=0.0)[2]
    assert [[m.shape[2] for m in batch.maps.label_maps] for batch in unbounded if batch.maps] == [[5, 7]] * 2


def test_another_classifier_sees_a_small_photograph_at_its_own_sizes(root):
    named = {"classifier": "resnet10t", "classifier_weights": "random", "label_map_size": 192}
    for batch in batches_of(root, **named)[2]:
        assert not batch.readable or len(batch.maps.label_maps) == 2  # the backbone is another network
        assert batch.whole is batch.places is None


def test_images_without_an_original_label_are_seen_place_by_place_and_others_whole(root):
    config, _, batches = batches_of(root, max_upscale=1.0)
    kinds = {}
    for batch in batches:
        for row in make_rows(batch.images, batch.decoded, find_regions(batch, config)):
            kinds[row.image_id] = row.whole_classes is not None, row.places is not None
            if row.whole_classes is not None:
                assert row.label in row.whole_classes
                assert row.whole_scores[:20] == sorted(row.whole_scores[:20], reverse=True)
            if row.places is not None:
                places = np.frombuffer(row.places, "<f2")
                assert places.shape == (1000,)
                assert 0 < places.max() <= 1
    labelled, plain, broken = (True, False), (False, True), (False, False)
    assert kinds == {
        "n01440764/a": labelled, "n01440764/broken": broken, "n01440764/c": labelled, "n01443537/a": labelled,
        "plain": plain, "plain_larger": plain, "z_broken": broken,
    }  # fmt: skip


def test_the_whole_images_probabilities_are_the_ensembles(root):
    """Rows keep the best classes and the original one, in the order of the images that could be read."""
    config, _, batches = batches_of(root)
    (batch,) = [batch for batch in batches if len(batch.readable) == 2]
    rows = make_rows(batch.images, batch.decoded, find_regions(batch, config))
    for row, p in zip(rows, batch.whole.numpy(), strict=True):
        assert row.whole_scores == p[row.whole_classes].tolist()
        assert row.whole_classes[:20] == np.argsort(-p, kind="stable")[:20].tolist()


def regions_of(root, out, **options):
    relabel(BuildConfig(images=str(root), out=str(out), stage="regions", device="cpu", **SIZES, **options))
    (file,) = (out / ".build" / "train" / "regions").glob("*.parquet")
    assert pq.read_metadata(file).num_rows == len(PHOTOGRAPHS)
    return read_rows(file, RegionsRow)


def test_rows_come_in_the_listings_order_and_are_the_same_in_any_batch(root, tmp_path):
    alone, together = (regions_of(root, tmp_path / str(size), batch_size=size) for size in (1, 8))
    names = [name.rpartition(".")[0] for name in PHOTOGRAPHS]
    assert [row.image_id for row in together] == sorted(names)
    assert [row.status for row in together if "broken" in row.image_id] == ["unreadable"] * 2
    assert sum(len(row.counts) for row in together) >= 5
    for row, other in zip(together, alone, strict=True):
        assert pickle.dumps(row) == pickle.dumps(other), row.image_id


class Reader:
    """Stands for an ImageReader; each image is decoded, or fails, as its script says."""

    def __init__(self, script):
        self.script, self.calls = script, []

    def loaded(self, listed):
        self.calls.append(listed.file_name)
        step = self.script[listed.file_name]
        step = step.pop(0) if len(step) > 1 else step[0]
        if isinstance(step, Exception):
            raise step
        return step, "hash"

    def digest(self, listed):
        return "hash"


def out_of_memory():
    error = ImageError("image in memory: not enough memory for 9 x 9 pixels", status="too_large")
    error.__cause__ = MemoryError()
    outer = ImageError("a.tar: b.png: not enough memory for 9 x 9 pixels", status="too_large")
    outer.__cause__ = error
    return outer


def test_whatever_one_image_does_becomes_its_status():
    image = Image.new("RGB", (30, 30))
    script = {
        "fine.png": [image],
        "large.png": [MemoryError()],
        "large_in_tar.png": [out_of_memory()],
        "crowded.png": [MemoryError(), image],
        "crowded_in_tar.png": [out_of_memory(), image],
        "denied.png": [ImageError("denied.png: Permission denied", status="inaccessible")],
        "bomb.png": [ImageError("bomb.png: exceeds limit", status="too_large")],
    }
    images = [ImageInput(name, name, 0, (1, 1)) for name in script]
    reader, forward = Reader(script), Forward(BuildConfig(device="cpu", **SIZES))
    found = {}
    for batch in forward.batches(images, reader, Clock()):
        found |= {image.file_name: one for image, one in zip(batch.images, batch.decoded, strict=True)}
    forward.close()
    assert {name: one.status for name, one in found.items()} == {
        "fine.png": "ok", "large.png": "too_large", "large_in_tar.png": "too_large", "crowded.png": "ok",
        "crowded_in_tar.png": "ok", "denied.png": "inaccessible", "bomb.png": "too_large",
    }  # fmt: skip
    assert found["large.png"].reason == "large.png: not enough memory"
    assert all(bool(one.tensors) == (one.status == "ok") for one in found.values())
    tried = {name: reader.calls.count(name) for name in script}
    assert tried["large.png"] == tried["crowded.png"] == 2  # the second time alone
    assert tried["denied.png"] == tried["bomb.png"] == 1


def test_networks_of_one_size_share_an_input(root):
    config = BuildConfig(images=str(root), device="cpu", max_upscale=0, image_size=224, scan_size=320)
    forward, reader, listing = Forward(config), ImageReader(root), list_images(str(root), split="train")
    for image in listing.images[:]:
        decoded = forward._decode(reader, image)
        if image.label is not None and decoded.tensors:
            assert [tensor.shape[1] for tensor in (*decoded.tensors, *decoded.opinion)] == [224, 320, 224, 240, 260]
            assert decoded.tensors[0] is decoded.opinion[0]
            assert decoded.tensors[0].dtype == torch.uint8
    forward.close()
