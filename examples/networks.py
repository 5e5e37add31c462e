"""The networks of train.py: timm and torchvision models by name, the outputs that a loss needs, and initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

__all__ = ["WithMaps", "WithPoints", "load_weights", "make_model", "normalisation"]

TORCHVISION = "torchvision:"


def make_model(name: str, classes: int, *, size: int = 224, drop_path: float = 0.0, loss: str = "bce") -> nn.Module:
    """Make a network with random weights for images of `size` pixels; it returns logits and the loss's other inputs."""
    if name.startswith(TORCHVISION):
        from torchvision import models

        if loss in ("spatial", "byproducts") or drop_path:
            raise SystemExit(f"--loss {loss} with --drop-path {drop_path} needs a timm model, not {name}")
        return models.get_model(name.removeprefix(TORCHVISION), weights=None, num_classes=classes)
    import timm

    more = {"drop_path_rate": drop_path} if drop_path else {}
    network = timm.create_model(name, num_classes=classes, **more)
    if hasattr(network, "set_input_size"):  # resizes a ViT's position embedding
        network.set_input_size(img_size=(size, size))
    return {"spatial": WithMaps, "byproducts": WithPoints}.get(loss, lambda plain: plain)(network)


def normalisation(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and deviation of a network's input: timm's values, or ImageNet's for a torchvision model."""
    if name.startswith(TORCHVISION):
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    from timm.models import get_pretrained_cfg

    found = get_pretrained_cfg(name)
    if found is None:
        raise SystemExit(f"--model {name}: not a timm model; timm.list_models() returns the valid names")
    return found.mean, found.std


class WithMaps(nn.Module):
    """Returns logits (B, K) and class maps (B, K, h, w), whose mean over places equals the logits.

    The last layer is applied at each place, before the average instead of after it. For networks that end in a global
    average and a linear layer, this leaves the logits unchanged. ViTs are averaged over their patches, without the
    class token.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        if not isinstance(network.get_classifier(), nn.Linear):
            raise SystemExit(
                f"class maps need a network that ends in a linear layer; {type(network).__name__} does not"
            )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and class maps."""
        features, last = self.network.forward_features(images), self.network.get_classifier()
        if features.ndim == 3:  # tokens (B, N, C)
            features = self.network.fc_norm(features[:, self.network.num_prefix_tokens :])
            side = round(features.shape[1] ** 0.5)
            features = features.unflatten(1, (side, -1))
        elif features.shape[1] == last.in_features:
            features = features.permute(0, 2, 3, 1)
        maps = last(features).permute(0, 3, 1, 2)
        return maps.mean(dim=(2, 3)), maps


class WithPoints(nn.Module):
    """Returns logits (B, K) and, from a second linear layer, points (B, 2): (x, y) as fractions of the crop."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.point = nn.Linear(network.head_hidden_size, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and points."""
        pooled = self.network.forward_head(self.network.forward_features(images), pre_logits=True)
        return self.network.get_classifier()(pooled), self.point(pooled)


def load_weights(model: nn.Module, path: Path) -> list[str]:
    """Load weights by name; return the skipped names.

    Layers for another number of classes are skipped, and a point head that only the model or the file has.

    Raises:
        ValueError: If any other name is missing or has another shape.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        found = load_file(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
    found = {name.removeprefix("module."): value for name, value in found.get("model", found).items()}
    resize_position(getattr(model, "network", model), found)
    wanted = {name: name.removeprefix("network.") for name in model.state_dict()}
    shapes = {wanted[name]: value.shape for name, value in model.state_dict().items()}
    other = [n for n, shape in shapes.items() if n in found and found[n].shape != shape]
    bad = [n for n in other if found[n].shape[1:] != shapes[n][1:]] + [
        n for n in shapes.keys() ^ found.keys() if not n.startswith("point.")
    ]
    if bad:
        raise ValueError(
            f"{path}: not the weights of this model; {len(bad)} names or shapes differ, for example {sorted(bad)[0]}"
        )
    kept = {name: found[short] for name, short in wanted.items() if short in found and short not in other}
    model.load_state_dict(kept, strict=False)
    return sorted([*other, *(n for n in shapes if n not in found)])


def resize_position(network: nn.Module, found: dict[str, torch.Tensor]) -> None:
    """Resample a ViT's position embedding to the network's image size."""
    position = getattr(network, "pos_embed", None)
    if position is None or "pos_embed" not in found or found["pos_embed"].shape == position.shape:
        return
    from timm.layers import resample_abs_pos_embed

    prefix = 0 if network.no_embed_class else network.num_prefix_tokens
    size = network.patch_embed.grid_size
    found["pos_embed"] = resample_abs_pos_embed(found["pos_embed"], size, num_prefix_tokens=prefix)
