"""Any timm classifier in the embedded one's place: on random weights, and the embedded one's under its timm name."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.networks.classifier import TimmClassifier, make_classifier, sees_whole_only
from build.networks.embedded import EmbeddedBackbone
from build.networks.scaling import scaled
from build.networks.whole import WholeClassifier
from build.ops.peaks import evidence, find_peaks
from build.records import RegionsRow, read_rows
from build.stages.regions import _probabilities
from mlimagenet_data.annotations.store import AnnotationStore

CPU = torch.device("cpu")
POOLED = {
    "resnet10t": 64,  # (B, C, h, w), a linear layer on the mean
    "mobilenetv3_small_050": 64,  # a hidden layer after the mean
    "convnext_atto": 64,  # a norm after the mean
    "swin_tiny_patch4_window7_224": 224,  # (B, h, w, C)
}


def batch_of(size, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name", ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "swin_tiny_patch4_window7_224"]
)
def test_the_map_is_the_models_own_head_at_each_place(name):
    size = POOLED[name]
    found = TimmClassifier(name, size, CPU, weights="random")
    maps, model = found(batch_of(size)), found._model
    seen = model.forward_features(batch_of(size)).detach()
    seen = seen.permute(0, 3, 1, 2) if name.startswith("swin") else seen
    assert maps.label_maps[0].shape == (2, 1000, *seen.shape[2:])
    one = seen[1:, :, :1, 1:2]  # an image of one place
    with torch.no_grad():
        wanted = model.forward_head(one.permute(0, 2, 3, 1) if name.startswith("swin") else one)
    assert torch.allclose(maps.label_maps[0][1, :, 0, 1], wanted[0], atol=1e-5)


def test_the_mean_of_a_linear_heads_map_is_the_models_answer():
    found = TimmClassifier("resnet10t", 64, CPU, weights="random")
    with torch.no_grad():
        wanted = found._model(batch_of(64))
    assert torch.allclose(found(batch_of(64)).label_maps[0].mean(dim=(2, 3)), wanted, atol=1e-4)


def test_averaged_tokens_form_a_label_map():
    found = TimmClassifier("vit_base_patch16_rope_reg1_gap_256", 64, CPU, weights="random")
    maps, model = found(batch_of(64)), found._model
    tokens = model.forward_features(batch_of(64)).detach()[:, model.num_prefix_tokens :]
    with torch.no_grad():
        wanted = model.head(model.fc_norm(tokens))
    assert maps.label_maps[0].shape == (2, 1000, 4, 4)
    assert torch.allclose(maps.label_maps[0].flatten(2).mT, wanted, atol=1e-4)


def test_the_map_is_the_head_applied_to_the_features():
    found = TimmClassifier("convnext_atto", 64, CPU, weights="random")
    maps = found(batch_of(64))
    weight, bias = (torch.from_numpy(values) for values in found.head)
    again = torch.einsum("bdhw,kd->bkhw", maps.features[0], weight) + bias[:, None, None]
    assert torch.allclose(again, maps.label_maps[0], atol=1e-5)


def test_the_embedded_weights_under_their_timm_name_give_the_embedded_map(tmp_path):
    embedded = EmbeddedBackbone(96, CPU)
    file = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in embedded._model.state_dict().items()}, file)
    config = BuildConfig(images="x", classifier="tf_efficientnet_lite0", classifier_weights=str(file))
    found = make_classifier(config, 96, CPU)
    for part in ("features", "label_maps"):
        ours, theirs = getattr(found(batch_of(96)), part)[0], getattr(embedded(batch_of(96)), part)[0]
        assert torch.allclose(ours, theirs, atol=1e-4)
    assert found.source == "tf_efficientnet_lite0 (timm), weights: weights.safetensors"  # it is published


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_224", "classifies from a single token"),
        ("no_such_net", "timm has no model of this name"),
        ("levit_128s", "must end in a linear layer"),
    ],
)
def test_unsuitable_networks_are_refused_by_name(name, message):
    with pytest.raises(ConfigError, match=message):
        TimmClassifier(name, 224, CPU, weights="random")


def test_the_embedded_classifier_is_the_default():
    assert isinstance(make_classifier(BuildConfig(images="x"), 64, CPU), EmbeddedBackbone)
    assert timm.is_model("vit_base_patch16_rope_reg1_gap_256")


def test_classifying_first_averages_each_places_probabilities():
    config = BuildConfig(images="x", classify_first=True, temperature=2.0)
    maps = (3 * torch.randn(1, 1000, 4, 4, generator=torch.Generator().manual_seed(1)),)
    masks = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, :2, :2], masks[0, 1, 3, 1:] = True, True
    peaks = find_peaks(maps, evidence(maps, 2.0), 0, 0.0, 2.0)
    found = _probabilities(maps, masks, peaks, config)[0].numpy()
    places = np.exp(maps[0][0].numpy() / 2)
    places /= places.sum(axis=0)
    for k, mask in enumerate([*masks[0].numpy(), np.ones((4, 4), bool)]):
        assert np.allclose(found[k], places[:, mask].mean(axis=1), atol=1e-6)


def test_a_build_by_another_classifier_that_classifies_first(photographs, tmp_path):
    small = {"image_size": 128, "label_map_size": 64, "scan_size": 96, "peak_score": 0}
    named = {"classifier": "resnet10t", "classifier_weights": "random", "reject": 0, "unlabelled": True}
    for way in (False, True):
        out = tmp_path / f"out{way}"
        relabel(BuildConfig(images=str(photographs), out=str(out), classify_first=way, **small, **named))
        (shard,) = (out / ".build" / "train" / "regions").glob("*.parquet")
        assert (pq.read_table(shard).column("classes").null_count == 0) == way
        store = AnnotationStore(out, "train")
        regions = [region for row in range(len(store)) for region in store.record(row).regions]
        assert len(regions) > len(store)
        assert all(0 < region.score < 0.1 for region in regions)  # random weights know nothing


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "cait_xxs24_224"])
def test_networks_with_a_class_token_see_whole_images_only(name):
    assert sees_whole_only(name)
    assert isinstance(make_classifier(BuildConfig(images="x", classifier=name), 64, CPU), EmbeddedBackbone)


@pytest.mark.parametrize(
    "name", ["none", "no_such_net", "resnet10t", "eva02_tiny_patch14_336", "swin_tiny_patch4_window7_224"]
)
def test_networks_that_average_places_see_them(name):
    assert not sees_whole_only(name)


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 224), ("eva02_tiny_patch14_336", 336)])
def test_a_whole_image_gets_the_models_own_probabilities_at_its_own_size(name, size):
    found = WholeClassifier(name, CPU, weights="random")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8))
    batch = scaled(image, *found.input_sizes(image, has_label=True))
    assert batch.shape == (3, size, size)
    with torch.no_grad():
        wanted = found._model(found._normalise(batch[None])).softmax(dim=1)
    assert torch.equal(found.see_whole([batch[None]]), wanted)
    assert torch.equal(found.see_places([batch[None]]), wanted)
    assert found.credits()[0]["source"] == f"{name} (timm), weights: random"


def test_published_weights_for_other_classes_are_refused_before_they_are_downloaded():
    with pytest.raises(ConfigError, match="its weights are for 21841 classes, not 1000"):
        WholeClassifier("eva02_base_patch14_448.mim_in22k_ft_in22k", CPU)
    with pytest.raises(ConfigError, match="its weights are for 21841 classes, not 1000"):
        TimmClassifier("convnext_base.fb_in22k", 224, CPU)


def test_a_class_token_gives_whole_images_their_probabilities_and_the_embedded_network_names_regions(
    photographs, tmp_path
):
    named = {"classifier": "vit_tiny_patch16_224", "classifier_weights": "random", "image_size": 128, "scan_size": 0}
    out = tmp_path / "out"
    report = relabel(BuildConfig(images=str(photographs), out=str(out), **named))
    sources = [network["source"].partition(" ")[0] for network in report.split["networks"]]
    assert sources == ["tf_efficientnet_lite0", "vit_tiny_patch16_224"]
    (shard,) = (out / ".build" / "train" / "regions").glob("*.parquet")
    for row in read_rows(shard, RegionsRow):
        assert max(row.whole_scores) < 0.1  # random weights know nothing
        assert len(row.features) == (len(row.counts) + 1) * 1280 * 2
        assert None not in row.map_scores
    store = AnnotationStore(out, "train")
    assert sum(len(store.record(row).regions) for row in range(len(store))) >= len(store)
