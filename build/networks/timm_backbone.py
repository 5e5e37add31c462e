"""Self-supervised backbones from timm: DINOv3, DINOv2 and DINO transformers, and DINOv3's ConvNeXts."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from build.config.options import ConfigError
from build.networks.backbone import Maps
from build.networks.scaling import Normalise
from build.progress import console

__all__ = ["TimmBackbone", "create_model", "dtype_of"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
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
        precision: `fp32`, `bf16` or `fp16`, of weights and activations; `auto`: `bf16` on CUDA, else `fp32`.
        compiled: Whether to run through torch.compile; None: on CUDA only. If that fails, the model runs as it is.
        option: The option that names the model, for messages.

    Raises:
        ConfigError: If timm does not know the name, the size is not a multiple of the patch size, or the model lacks
            the features.
    """

    def __init__(
        self, name: str, image_size: int, device: torch.device, *, weights: str = "hub", patch_features: str = "tokens",
        precision: str = "auto", compiled: bool | None = None, option: str = "backbone",
    ) -> None:  # fmt: skip
        self.name, self.image_size, self.device = name, image_size, device
        model, self.source, self.licence = create_model(option, name, image_size, weights)
        self._transformer = hasattr(model, "blocks") and hasattr(model, "num_prefix_tokens")
        if patch_features == "keys" and not self._transformer:
            raise ConfigError(f"patch_features: {name} has no attention keys; use tokens")
        compiled = device.type == "cuda" if compiled is None else compiled
        self._cuts_keys = patch_features == "keys"
        # Threads may run one network at the same time. What is compiled cannot keep something for each of them.
        self._kept = _Kept() if compiled else _KeptByThread()
        self._alone: Any = threading.Lock() if compiled else nullcontext()
        if self._cuts_keys:
            _keep_keys(model, name, self._kept)
        self._normalise = Normalise(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]).to(device)
        self._prefix = model.num_prefix_tokens if self._transformer else 0
        self._grid = _grid(model, name, image_size) if self._transformer else None
        self._indices: int | list[int] = 1 if self._transformer else _stages(model)  # 1: the last block
        self._dtype = dtype_of(precision, device)
        self._model = model.eval().to(device, self._dtype)
        self._forward: Any = model.forward_intermediates
        self._compiled: Any = torch.compile(self._forward) if compiled else None

    def input_size(self, image: Image.Image) -> int:
        """Return the side of the square to which an image is scaled, in pixels."""
        return self.image_size

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> Maps:
        """Return the maps of a (B, 3, S, S) batch of pixels; `features` are the last normalised tokens (or the last stage)."""
        batch = self._normalise(batch.to(self.device)).to(self._dtype)
        with self._alone:
            maps = self._run(batch)
            keys = self._kept.keys.pop() if self._cuts_keys else None  # (B, heads, tokens, d)
        patches, features = maps[0].float(), maps[-1].float()
        if keys is not None:
            assert self._grid is not None
            keys = keys[:, :, self._prefix :].float()
            patches = keys.permute(0, 1, 3, 2).reshape(len(keys), -1, *self._grid)
        return Maps(patches, (features,), ())

    def _run(self, batch: torch.Tensor) -> Any:
        options = {"indices": self._indices, "norm": self._transformer, "intermediates_only": True}
        if self._compiled is not None:
            try:
                return self._compiled(batch, **options)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and the result is the same without one
                console.print(f"torch.compile failed, so {self.name} runs without it: {type(error).__name__}: {error}")
                self._compiled = None
        return self._forward(batch, **options)


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of weights and activations for a precision: `auto`, `fp32`, `bf16` or `fp16`."""
    return _DTYPES[("bf16" if device.type == "cuda" else "fp32") if precision == "auto" else precision]


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


class _Kept:
    """The last block's keys of the last forward pass, (B, heads, tokens, d); a list, which torch.compile can follow."""

    def __init__(self) -> None:
        self.keys: list[torch.Tensor] = []


class _KeptByThread(threading.local, _Kept):
    """The same, of each thread's own last pass."""


def _keep_keys(model: Any, name: str, kept: _Kept) -> None:
    """Let each forward pass keep its keys."""
    norm = getattr(getattr(model.blocks[-1], "attn", None), "k_norm", None)
    if norm is None:
        raise ConfigError(f"patch_features: this release of timm does not expose the keys of {name}; use tokens")

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        kept.keys[:] = [output]

    norm.register_forward_hook(keep)
