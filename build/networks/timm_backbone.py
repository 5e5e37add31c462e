"""Self-supervised backbones from timm: DINOv3, DINOv2 and DINO transformers, and DINOv3's ConvNeXts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from build.config.options import ConfigError
from build.networks.backbone import Maps

__all__ = ["TimmBackbone", "autocast", "create_model", "prepare"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FINEST = 16  # a convolutional network is cut at its last stage with at most this stride


class TimmBackbone:
    """A timm model in evaluation mode.

    Args:
        name: timm's name, with or without a weights tag, such as `vit_small_patch16_dinov3.lvd1689m`.
        image_size: Side in pixels of the square to which images are scaled; a multiple of the patch size.
        device: Device to run on.
        weights: `hub`: timm downloads them; `random`: untrained, for tests; otherwise a file that timm reads
            (safetensors or a state dict).
        patch_features: `tokens`: the last block's normalised patch tokens; `keys`: its attention keys before any
            position encoding, with the heads concatenated, as in MaskCut.
        precision: `fp32`, or `bf16` or `fp16` for autocast.
        compiled: Whether to run through torch.compile.
        option: The option that names the model, for messages.

    Raises:
        ConfigError: If timm does not know the name, the size is not a multiple of the patch size, or the model lacks
            the features.
    """

    def __init__(
        self, name: str, image_size: int, device: torch.device, *, weights: str = "hub", patch_features: str = "tokens",
        precision: str = "fp32", compiled: bool = False, option: str = "backbone",
    ) -> None:  # fmt: skip
        self.name, self.image_size, self.device = name, image_size, device
        model, self.source, self.licence = create_model(option, name, image_size, weights)
        self._transformer = hasattr(model, "blocks") and hasattr(model, "num_prefix_tokens")
        if patch_features == "keys" and not self._transformer:
            raise ConfigError(f"patch_features: {name} has no attention keys; use tokens")
        self._dtype = precision
        self._keys: list[torch.Tensor] | None = _collect_keys(model, name) if patch_features == "keys" else None
        self._normalise = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
        self._prefix = model.num_prefix_tokens if self._transformer else 0
        self._grid = _grid(model, name, image_size) if self._transformer else None
        self._indices: int | list[int] = 1 if self._transformer else _stages(model)  # 1: the last block
        self._model = model.eval().to(device)
        self._forward: Any = model.forward_intermediates
        if compiled:
            self._forward = torch.compile(self._forward)

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input for an RGB image: (3, S, S) float32, scaled without keeping the aspect ratio."""
        return prepare(image, self.image_size, *self._normalise)

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> Maps:
        """Return the maps of a (B, 3, S, S) batch; `features` are the last normalised tokens (or the last stage)."""
        with autocast(self.device, self._dtype):
            norm = self._transformer
            maps = self._forward(batch.to(self.device), indices=self._indices, norm=norm, intermediates_only=True)
        patches, features = maps[0].float(), maps[-1].float()
        if self._keys is not None:
            assert self._grid is not None
            keys = self._keys.pop()[:, :, self._prefix :].float()  # (B, heads, h * w, d)
            patches = keys.permute(0, 1, 3, 2).reshape(len(keys), -1, *self._grid)
        return Maps(patches, (features,), ())


def prepare(image: Image.Image, image_size: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Scale an RGB image to a square and normalise it: (3, image_size, image_size) float32."""
    scaled = image.resize((image_size, image_size), Image.Resampling.BICUBIC)
    pixels = (np.asarray(scaled, np.float32) / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context for a precision: `fp32`, `bf16` or `fp16`."""
    return torch.autocast(device.type, _DTYPES.get(precision), enabled=precision in _DTYPES)


def create_model(option: str, name: str, image_size: int, weights: str, *, classes: int = 0) -> tuple[Any, str, str]:
    """Return a timm model, the origin of its weights, and their licence.

    Args:
        option: The option that names the model, for messages.
        name: timm's name.
        image_size: Side of the input in pixels.
        weights: `hub`, `random`, or a file that timm reads.
        classes: Classes of the classifier; 0 for none.

    Raises:
        ConfigError: If timm cannot create it, or the published weights are for other classes.
    """
    import timm

    options: dict[str, Any] = {"num_classes": classes}
    if weights not in ("hub", "random"):
        if not Path(weights).is_file():
            raise ConfigError(f"{option}: its weights {weights!r} are not a file; pass hub, random or a file")
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        if not timm.is_model(name.partition(".")[0]):
            raise RuntimeError("timm has no model of this name")
        published = timm.get_pretrained_cfg(name)
        if classes and weights == "hub" and published and published.num_classes != classes:
            raise RuntimeError(f"its weights are for {published.num_classes} classes, not {classes}")
        sized: dict[str, Any] = {"img_size": image_size} if "vit" in name or "eva" in name else {}
        if name.startswith(("vit_", "eva02_")) and "dinov3" in name:
            sized["dynamic_img_size"] = False  # else each batch sends the positions to the device anew
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same random weights every time
            model = timm.create_model(name, pretrained=weights != "random", **options, **sized)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"{option}: cannot create {name!r} for {image_size} x {image_size} pixels with weights {weights!r}: {error}"
        ) from error
    config = model.pretrained_cfg
    source = f"{name} (timm), weights: {config.get('hf_hub_id') or 'timm' if weights == 'hub' else Path(weights).name}"
    return model, source, "none: random weights" if weights == "random" else str(config.get("license") or "unknown")


def _grid(model: Any, name: str, image_size: int) -> tuple[int, int]:
    high, wide = model.patch_embed.patch_size
    if image_size % high or image_size % wide:
        near = max(high, round(image_size / high) * high)
        raise ConfigError(f"image_size: {image_size} must be a multiple of {name}'s patch size, {high}; use {near}")
    return image_size // high, image_size // wide


def _stages(model: Any) -> list[int]:
    """Return the indices of the stage that is cut and of the last stage."""
    strides = [info["reduction"] for info in model.feature_info]
    return sorted({max(k for k, stride in enumerate(strides) if stride <= _FINEST), len(strides) - 1})


def _collect_keys(model: Any, name: str) -> list[torch.Tensor]:
    """Return a list that holds the last block's keys (B, heads, tokens, d) after each forward pass."""
    found: list[torch.Tensor] = []
    norm = getattr(getattr(model.blocks[-1], "attn", None), "k_norm", None)
    if norm is None:
        raise ConfigError(f"patch_features: this release of timm does not expose the keys of {name}; use tokens")

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        found[:] = [output]

    norm.register_forward_hook(keep)
    return found
