"""Networks to evaluate, each with its own preprocessing: timm and torchvision models, and the embedded network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mlimagenet_data.embedded import embedded_network
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.files.reading import load_tensors

__all__ = ["Network", "open_network", "read_weights"]

_PREFIXES = ("module.", "_orig_mod.")  # added by DistributedDataParallel and torch.compile


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, on the CPU.

    Attributes:
        name: The requested name.
        module: Maps a batch to logits (B, 1000).
        prepare: Turns an RGB image into the input, a float32 tensor (3, H, W).
    """

    name: str
    module: torch.nn.Module
    prepare: Callable[[Image.Image], torch.Tensor]


def open_network(name: str, weights: Path | None = None, image_size: int | None = None) -> Network:
    """Create a network with its weights.

    Args:
        name: `embedded` (EfficientNet-Lite0, see `mlimagenet_data.embedded`), `torchvision:NAME`, or a timm model name
            with or without a weights tag.
        weights: Weights file, `.safetensors` or a state dict; None downloads the published weights.
        image_size: Input size of timm models; None uses the model's own.

    Raises:
        EvaluationError: If the network does not exist, or the weights do not match or cannot be downloaded.
    """
    try:
        if name == "embedded":
            module = embedded_network(None if weights is None else read_weights(weights))
            prepare = _timm_transform(module, image_size)
        elif name.startswith("torchvision:"):
            if image_size is not None:
                raise ValueError(f"--image-size {image_size} works only with timm models")
            module, prepare = _torchvision(name.partition(":")[2], weights)
        else:
            module = _timm(name, weights, image_size)
            prepare = _timm_transform(module, image_size)
    except EvaluationError:
        raise
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}; install what --model {name} needs: pip install 'mlimagenet-data[eval]'"
        ) from error
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError) as error:  # OSError: no internet connection
        reason = " ".join(str(error).split())[:500]
        advice = (
            "; use --weights FILE to read them from a file" if weights is None and isinstance(error, OSError) else ""
        )
        raise EvaluationError(f"--model {name}: cannot create the network: {reason}{advice}") from error
    return Network(name, module.eval(), prepare)


def _timm(name: str, weights: Path | None, image_size: int | None) -> Any:
    import timm

    if not timm.is_model(name.partition(".")[0]):
        raise ValueError("timm has no model of that name")
    module = timm.create_model(name, pretrained=weights is None)
    if image_size is not None and hasattr(module, "set_input_size"):  # resizes the position embedding of ViTs
        module.set_input_size(img_size=(image_size, image_size))
    return _filled(module, weights)


def _timm_transform(module: Any, image_size: int | None) -> Callable[[Image.Image], torch.Tensor]:
    from timm.data import create_transform, resolve_model_data_config

    size = {} if image_size is None else {"input_size": (3, image_size, image_size)}
    transform: Callable[[Image.Image], torch.Tensor] = create_transform(**{**resolve_model_data_config(module), **size})
    return transform


def _torchvision(name: str, weights: Path | None) -> tuple[Any, Callable[[Image.Image], torch.Tensor]]:
    from torchvision.models import get_model, get_model_weights

    published = get_model_weights(name).DEFAULT
    module = get_model(name, weights=published if weights is None else None)
    return _filled(module, weights), published.transforms()


def _filled(module: Any, weights: Path | None) -> Any:
    """Load a weights file into a module, if one is given."""
    if weights is not None:
        module.load_state_dict(read_weights(weights))
    return module


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from a .safetensors file or a torch.save file, whose pickle may contain only tensors.

    Checkpoints that hold the state dict under `state_dict_ema`, `state_dict`, `model_ema` or `model` also work.

    Raises:
        EvaluationError: If the file does not exist or holds no state dict.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: weights file not found")
    state = _safetensors(path) if path.suffix == ".safetensors" else _pickled_tensors(path)
    for name in ("state_dict_ema", "state_dict", "model_ema", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
            break
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise EvaluationError(f"{path}: must hold a state dict (tensors by name)")
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise EvaluationError(f"{path}: cannot read weights: {error}") from error


def _pickled_tensors(path: Path) -> Any:
    try:
        return load_tensors(path)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot read weights: {error}") from error
