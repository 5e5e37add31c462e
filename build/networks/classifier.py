"""timm classifiers applied at each location: they provide label maps and the head from which the labeler starts."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from build.config.options import BuildConfig, ConfigError
from build.networks.backbone import Backbone, Maps
from build.networks.embedded import EmbeddedBackbone
from build.networks.scaling import Normalise, bounded_size
from build.networks.timm_backbone import create_model, dtype_of
from mlimagenet_data.classes import NUM_CLASSES

__all__ = ["Classifier", "TimmClassifier", "make_classifier", "sees_whole_only"]


class Classifier(Backbone, Protocol):
    """A network whose maps include a label map."""

    @property
    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The classifier's weight (K, D) and bias (K,)."""


def make_classifier(config: BuildConfig, image_size: int, device: torch.device) -> Classifier:
    """Return the classifier that is applied at each location, for images scaled to `image_size` x `image_size` pixels.

    It is the one that `--classifier` names, or the embedded one if that one sees whole images only.
    """
    if config.classifier == "embedded" or sees_whole_only(config.classifier):
        return EmbeddedBackbone(image_size, device, config.max_upscale)
    return TimmClassifier(
        config.classifier, image_size, device, weights=config.classifier_weights, precision=config.precision,
        max_upscale=config.max_upscale,
    )  # fmt: skip


@functools.cache
def sees_whole_only(name: str) -> bool:
    """Return whether a timm classifier classifies from a single token, which has no location."""
    import timm

    if name == "none" or not timm.is_model(name.partition(".")[0]):
        return False
    try:
        with torch.device("meta"):  # no memory for weights
            return _pooling(timm.create_model(name, pretrained=False)) != "avg"
    except (RuntimeError, NotImplementedError):  # made of operations that need values
        return False


def _pooling(model: Any) -> str:
    return str(getattr(model, "global_pool", "avg")) if hasattr(model, "patch_embed") else "avg"


class TimmClassifier:
    """A timm classifier of ImageNet's classes, in evaluation mode.

    The layers that follow the average over locations (norms, hidden layers) are applied at each location instead. If
    the head is a single linear layer, the mean over locations stays the same; otherwise the result is a classifier
    close to the trained one.

    Args:
        name: timm's name, with or without a weights tag, such as `resnet50.a1_in1k`.
        image_size: Side in pixels of the square to which images are scaled.
        device: Device to run on.
        weights: See `TimmBackbone`.
        precision: See `TimmBackbone`. The last layer stays in float32.
        max_upscale: See `bounded_size`. Transformers and others that take images of one size only ignore it.

    Raises:
        ConfigError: If timm does not know the name, or the network does not average over locations, does not end in a
            linear layer, or has other classes.
    """

    def __init__(
        self, name: str, image_size: int, device: torch.device, *, weights: str = "hub", precision: str = "auto",
        max_upscale: float = 0.0,
    ) -> None:  # fmt: skip
        self.name, self.image_size, self.device = name, image_size, device
        model, self.source, self.licence = create_model("classifier", name, image_size, weights, classes=NUM_CLASSES)
        self._linear = _last_layer(model, name)
        self._prefix = getattr(model, "num_prefix_tokens", 0)
        if _pooling(model) != "avg":
            raise ConfigError(
                f"classifier: {name} classifies from a single token (global_pool={_pooling(model)!r}), which has no location; "
                "use a convolutional network, or a transformer that averages its patches (timm marks some with _gap_)"
            )
        self._max_upscale = 0.0 if hasattr(model, "patch_embed") or _has_fixed_size(model) else max_upscale
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._normalise = Normalise(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]).to(device)
        self._dtype = dtype_of(precision, device)
        self._model = model.eval().to(device, self._dtype)
        self._linear.float()

    @property
    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The last layer's weight (K, D) and bias (K,), from which the labeler starts."""
        weight, bias = self._linear.weight.detach().cpu(), self._linear.bias
        return weight.numpy(), (torch.zeros(len(weight)) if bias is None else bias.detach().cpu()).numpy()

    def input_size(self, image: Any) -> int:
        """Return the side of the square to which an image is scaled, in pixels."""
        return bounded_size(self.image_size, image, self._max_upscale)

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Maps:
        """Return the maps of a (B, 3, S, S) batch of pixels; `patches` are `features`, the last layer's input."""
        batch = self._normalise(batch.to(self.device)).to(self._dtype)
        places, (height, width) = self._places(self._model.forward_features(batch))
        found = self._model.forward_head(places, pre_logits=True).flatten(1).float()
        features = found.reshape(len(batch), height, width, -1).permute(0, 3, 1, 2)
        label_map = nn.functional.linear(found, self._linear.weight, self._linear.bias)
        label_map = label_map.reshape(len(batch), height, width, -1).permute(0, 3, 1, 2).float()
        return Maps(features, (features,), (label_map,))

    def _places(self, values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return each location as a separate input of the head, and the grid's (height, width)."""
        if values.ndim == 3:
            grid = self._model.patch_embed.dynamic_feat_size((self.image_size, self.image_size))
            tokens = values[:, self._prefix :].flatten(0, 1)[:, None]
            return torch.cat((tokens.new_zeros(len(tokens), self._prefix, tokens.shape[2]), tokens), 1), grid
        if not self._channels_last:
            values = values.permute(0, 2, 3, 1)
        size = (values.shape[1], values.shape[2])
        places = values.flatten(0, 2)[:, None, None]
        return places if self._channels_last else places.permute(0, 3, 1, 2), size


def _has_fixed_size(model: Any) -> bool:
    return bool(model.pretrained_cfg.get("fixed_input_size"))


def _last_layer(model: Any, name: str) -> nn.Linear:
    layer = model.get_classifier()
    if not isinstance(layer, nn.Linear) or layer.out_features != NUM_CLASSES:
        raise ConfigError(f"classifier: {name} ends in {layer}; it must end in a linear layer of {NUM_CLASSES} classes")
    return layer
