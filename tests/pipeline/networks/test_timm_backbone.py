"""Backbones on random weights: no weights can be downloaded here."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from build.config.options import ConfigError
from build.networks.scaling import input_of
from build.networks.timm_backbone import TimmBackbone, dtype_of

CPU = torch.device("cpu")
TRANSFORMERS = {
    "vit_small_patch16_dinov3.lvd1689m": 64,
    "vit_small_patch16_dinov3_qkvb.lvd1689m": 64,
    "vit_small_plus_patch16_dinov3.lvd1689m": 48,
    "vit_small_patch14_reg4_dinov2.lvd142m": 70,
    "vit_small_patch8_224.dino": 40,
}


def backbone(name, size, **options):
    return TimmBackbone(name, size, CPU, weights="random", **options)


def batch_of(size, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def last_attention_input(model, batch):
    """What the last block's attention gets."""
    seen = []
    handle = model.blocks[-1].attn.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        model.forward_features(batch)
    handle.remove()
    return seen[0]


def recomputed_keys(attn, tokens):
    """Keys from the attention's own weights: (B, heads * d, N), before any position encoding."""
    width = attn.qkv.weight.shape[0] // 3
    weight = attn.qkv.weight[width : 2 * width]
    bias = None
    if attn.qkv.bias is not None:
        bias = attn.qkv.bias[width : 2 * width]
    elif getattr(attn, "k_bias", None) is not None:
        bias = attn.k_bias
    with torch.no_grad():
        return F.linear(tokens, weight, bias).mT


@pytest.mark.parametrize(("name", "size"), TRANSFORMERS.items())
def test_keys_are_those_of_the_models_own_attention(name, size):
    found = backbone(name, size, patch_features="keys")
    batch = batch_of(size)
    model = found._model
    patch = model.patch_embed.patch_size[0]
    keys = recomputed_keys(model.blocks[-1].attn, last_attention_input(model, batch))[:, :, model.num_prefix_tokens :]
    maps = found(batch)
    assert maps.patches.shape == (2, 384, size // patch, size // patch)
    torch.testing.assert_close(maps.patches.flatten(2), keys, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "size"), TRANSFORMERS.items())
def test_tokens_are_the_normalised_patch_tokens_of_the_models_own_forward(name, size):
    found = backbone(name, size)
    batch = batch_of(size)
    maps = found(batch)
    with torch.no_grad():
        tokens = found._model.forward_features(batch)[:, found._model.num_prefix_tokens :]
    torch.testing.assert_close(maps.patches.flatten(2).mT, tokens, atol=1e-4, rtol=1e-4)
    assert torch.equal(maps.features[0], maps.patches)
    assert maps.label_maps == ()


def test_a_convolutional_network_is_cut_at_stride_16():
    found = backbone("convnext_tiny.dinov3_lvd1689m", 96)
    maps = found(batch_of(96))
    assert maps.patches.shape == (2, 384, 6, 6)
    assert maps.features[0].shape == (2, 768, 3, 3)
    with torch.no_grad():
        stages = found._model.forward_intermediates(batch_of(96), intermediates_only=True)
    torch.testing.assert_close(maps.patches, stages[2])


def test_the_error_for_an_indivisible_size_suggests_the_nearest_valid_one():
    with pytest.raises(ConfigError, match=r"image_size: 70 must be a multiple of .*'s patch size, 16; use 64"):
        backbone("vit_small_patch16_dinov3.lvd1689m", 70)
    with pytest.raises(ConfigError, match="cannot create 'vit_of_nobody'"):
        backbone("vit_of_nobody", 64)
    with pytest.raises(ConfigError, match="no attention keys"):
        backbone("convnext_tiny.dinov3_lvd1689m", 64, patch_features="keys")
    with pytest.raises(ConfigError, match="pass hub, random or a file"):
        TimmBackbone("vit_small_patch16_dinov3", 64, CPU, weights="nowhere.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_are_read_from_a_file(tmp_path, suffix):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(model.state_dict(), file)
    else:
        from safetensors.torch import save_file

        save_file(model.state_dict(), file)
    same = TimmBackbone("vit_tiny_patch16_224", 224, CPU, weights=str(file))
    with torch.no_grad():
        expected = model.eval().forward_features(batch_of(224, 1))[:, 1:]
    torch.testing.assert_close(same(batch_of(224, 1)).patches.flatten(2).mT, expected, atol=1e-4, rtol=1e-4)
    other = TimmBackbone("vit_tiny_patch16_224", 96, CPU, weights=str(file))  # positions are interpolated
    assert other(batch_of(96)).patches.shape == (2, 192, 6, 6)


@pytest.mark.parametrize("compiled", [False, True])
def test_threads_may_run_one_network_at_the_same_time(compiled, monkeypatch):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="eager"))
    found = backbone("vit_small_patch16_dinov3", 32, patch_features="keys", compiled=compiled)
    batches = [torch.randn(1, 3, 32, 32) for _ in range(60)]
    expected = [found(batch).patches for batch in batches]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda batch: found(batch).patches, batches))
    torch.set_num_threads(threads)
    for one, other in zip(seen, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_failing_compiler_is_reported_and_not_needed(monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda function: fails)
    found = backbone("vit_small_patch16_dinov3", 32, compiled=True)
    plain = backbone("vit_small_patch16_dinov3", 32)
    for _ in range(2):
        assert torch.equal(found(batch_of(32)).patches, plain(batch_of(32)).patches)
    assert capsys.readouterr().out.count("torch.compile failed") == 1


def test_precision_depends_on_the_device_unless_it_is_given():
    assert dtype_of("auto", CPU) == torch.float32
    assert dtype_of("auto", torch.device("cuda")) == torch.bfloat16
    assert dtype_of("fp16", torch.device("cuda")) == torch.float16


def test_half_precision_is_close():
    exact, half = (
        backbone("vit_small_patch16_dinov3", 64, precision=p)(batch_of(64)).patches for p in ("fp32", "bf16")
    )
    cosine = F.cosine_similarity(exact.flatten(2), half.flatten(2), dim=1)
    assert half.dtype == torch.float32
    assert cosine.min() > 0.99
    assert not torch.equal(exact, half)


def test_images_are_scaled_and_normalised_as_the_weights_require():
    found = backbone("vit_small_patch16_dinov3", 32)
    tensor = input_of(found, Image.new("RGB", (500, 80), (255, 0, 127)))
    assert tensor.shape == (3, 32, 32)
    assert tensor.dtype == torch.uint8
    mean, std = (np.array(found._model.pretrained_cfg[name]) for name in ("mean", "std"))
    normalised = found._normalise(tensor[None])[0]
    np.testing.assert_allclose(normalised[:, 5, 7], (np.array([1, 0, 127 / 255]) - mean) / std, rtol=1e-5)
    assert torch.equal(found(tensor[None]).patches, found(normalised[None]).patches)
