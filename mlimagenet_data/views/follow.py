"""Geometry tracking for transforms of torchvision v2, torchvision v1, timm, or your own.

`follow` turns a transform into a function of an image and a `Tracker`. torchvision v2's own classes transform the
tracker with the image. torchvision v1's geometric classes are replaced by their v2 equivalents. All others are called
with a `TrackedImage` while the image is a PIL image. Other cases are an error: geometry is never guessed.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.track_pillow import TrackedImage
from mlimagenet_data.views.track_torchvision import Tracker
from mlimagenet_data.views.view import View

__all__ = ["Followed", "follow", "transform_with_view"]

Followed = Callable[[Any, Tracker], tuple[Any, Tracker]]

_WAY_OUT = (
    "Remove it, apply it after the dataset, or pass untrackable='whole' to MultiLabelImageNet to get the whole image's "
    "labels for every view"
)
_OWN_WORD = (
    "If it does not change geometry, or does so only through torchvision.transforms.v2.functional, set its attribute "
    "`tracks_views` to True"
)

# v2 classes without a geometry kernel, or whose output has more than one view
_REFUSED_V2 = {
    v2.AugMix: "it blends three differently warped copies",
    v2.Lambda: f"its geometry is unknown. {_OWN_WORD}",
    v2.RandomIoUCrop: "it needs bounding boxes",
    v2.ElasticTransform: "it bends the image, so no single map describes the visible part",
    v2.FiveCrop: "it returns several views of one image",
    v2.TenCrop: "it returns several views of one image",
}
_PHOTOMETRIC_V2 = {"_color", "_misc", "_type_conversion"}  # modules of torchvision.transforms.v2 without geometry
_AUTO_V2 = (v2.AutoAugment, v2.RandAugment, v2.TrivialAugmentWide)
_AUTO_GEOMETRIC = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
_AUTO_PHOTOMETRIC = {"Identity", "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast",
                     "Equalize", "Invert"}  # fmt: skip

# v1 classes with a v2 equivalent: the arguments to copy. The same torch seed yields the same pixels.
_V1_TO_V2: dict[type, tuple[type, tuple[str, ...]]] = {
    v1.Resize: (v2.Resize, ("size", "interpolation", "max_size", "antialias")),
    v1.CenterCrop: (v2.CenterCrop, ("size",)),
    v1.Pad: (v2.Pad, ("padding", "fill", "padding_mode")),
    v1.RandomCrop: (v2.RandomCrop, ("size", "padding", "pad_if_needed", "fill", "padding_mode")),
    v1.RandomResizedCrop: (v2.RandomResizedCrop, ("size", "scale", "ratio", "interpolation", "antialias")),
    v1.RandomHorizontalFlip: (v2.RandomHorizontalFlip, ("p",)),
    v1.RandomVerticalFlip: (v2.RandomVerticalFlip, ("p",)),
    v1.RandomRotation: (v2.RandomRotation, ("degrees", "interpolation", "expand", "center", "fill")),
    v1.RandomAffine: (v2.RandomAffine, ("degrees", "translate", "scale", "shear", "interpolation", "fill", "center")),
    v1.RandomPerspective: (v2.RandomPerspective, ("distortion_scale", "p", "interpolation", "fill")),
    v1.RandomErasing: (v2.RandomErasing, ("p", "scale", "ratio", "value", "inplace")),
    v1.AutoAugment: (v2.AutoAugment, ("policy", "interpolation", "fill")),
    v1.RandAugment: (v2.RandAugment, ("num_ops", "magnitude", "num_magnitude_bins", "interpolation", "fill")),
    v1.TrivialAugmentWide: (v2.TrivialAugmentWide, ("num_magnitude_bins", "interpolation", "fill")),
}
_V1_PHOTOMETRIC = (
    v1.ColorJitter, v1.Grayscale, v1.RandomGrayscale, v1.GaussianBlur, v1.RandomInvert, v1.RandomPosterize, v1.RandomSolarize,
    v1.RandomAdjustSharpness, v1.RandomAutocontrast, v1.RandomEqualize, v1.Normalize, v1.ToTensor, v1.PILToTensor,
    v1.ConvertImageDtype, v1.ToPILImage,
)  # fmt: skip
_TIMM_CONVERSIONS = {"ToNumpy", "ToTensor", "MaybeToTensor", "MaybePILToTensor"}


def follow(transform: Callable[..., Any]) -> Followed:  # noqa: PLR0911 - one line per kind is easiest to read
    """Return a function that applies a transform to an image and updates the tracker's view.

    Raises:
        UntrackableTransformError: If a part cannot be followed; the message names the first such part and the way out.
            Parts whose geometry is known only when applied raise it then.
    """
    if not callable(transform):
        raise TypeError(
            f"transform must be callable, got a {type(transform).__name__} "
            "(timm's create_transform(separate=True) returns a tuple of three)"
        )
    name = getattr(transform, "__name__", type(transform).__name__)
    kind = type(transform)
    if getattr(transform, "tracks_views", False):
        return transform if isinstance(transform, v2.Transform) else _photometric(transform)
    if isinstance(transform, v2.Transform):
        return _follow_v2(transform, name)
    if kind in (v1.Compose, torch.nn.Sequential, torch.nn.ModuleList):
        parts: Any = transform.transforms if kind is v1.Compose else transform  # type: ignore[attr-defined]
        return _sequence([follow(part) for part in parts])
    if kind in (v1.RandomApply, v1.RandomChoice, v1.RandomOrder):
        return _container(
            transform, {v1.RandomApply: v2.RandomApply, v1.RandomChoice: v2.RandomChoice}.get(kind, v2.RandomOrder)
        )
    if kind in _V1_TO_V2:
        target, names = _V1_TO_V2[kind]
        return follow(target(**{argument: getattr(transform, argument) for argument in names}))
    if kind in _V1_PHOTOMETRIC:
        return _photometric(transform)
    if kind.__module__.startswith("timm.data"):
        return _follow_timm(transform, name)
    return _by_pillow(transform, name)


def _follow_v2(transform: Any, name: str) -> Followed:
    if isinstance(transform, v2.Compose | v2.RandomApply | v2.RandomChoice | v2.RandomOrder):
        return _container(transform, type(transform))
    for refused, why in _REFUSED_V2.items():
        if isinstance(transform, refused):
            raise UntrackableTransformError(f"{name}: {why}. {_WAY_OUT}")
    module = type(transform).__module__
    if not module.startswith("torchvision."):
        raise UntrackableTransformError(
            f"{name}: not torchvision's own, so its geometry is unknown. {_OWN_WORD}. {_WAY_OUT}"
        )
    if isinstance(transform, _AUTO_V2):
        return _auto_augment(transform)
    return _directly(transform, geometric=module.rpartition(".")[2] not in _PHOTOMETRIC_V2)


def _directly(transform: Any, *, geometric: bool) -> Followed:
    """Draw a v2 transform's parameters once and apply them to the image and, if geometric, to the tracker.

    This repeats `forward` without flattening nested inputs, which takes longer than following the geometry. Transforms
    that override `forward`, and torchvision releases with other names for these steps, are called directly.
    """
    kind = type(transform)
    by_chance = kind.forward is v2.RandomHorizontalFlip.forward
    if not hasattr(kind, "make_params") or not (by_chance or kind.forward is v2.Transform.forward):
        followed: Followed = transform if geometric else _photometric(transform)
        return followed

    def apply(image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
        transform.check_inputs([image])
        if by_chance and torch.rand(1) >= transform.p:
            return image, tracker
        if not transform._needs_transform_list([image])[0]:  # ToDtype and similar transforms skip PIL images
            return image, tracker
        params = transform.make_params([image])
        output = transform.transform(image, params)
        return output, transform.transform(tracker, params) if geometric else tracker

    return apply


def _sequence(parts: list[Followed]) -> Followed:
    def apply(image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
        for part in parts:
            image, tracker = part(image, tracker)
        return image, tracker

    return apply


def _container(transform: Any, target: type) -> Followed:
    """Rebuild a container around its followed parts; torchvision's containers accept several inputs."""
    parts = [follow(part) for part in transform.transforms]
    if target is v2.Compose:
        return _sequence(parts)
    options = {"p": transform.p} if target in (v2.RandomApply, v2.RandomChoice) else {}
    rebuilt: Followed = target(parts, **options)
    return rebuilt


def _photometric(transform: Callable[[Any], Any]) -> Followed:
    """Follow a transform that is known to keep every pixel in place."""
    return lambda image, tracker: (transform(image), tracker)


def _auto_augment(transform: Any) -> Followed:
    """Follow AutoAugment and similar policies: apply each geometric operation to both image and tracker."""

    def apply(image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
        def one(inpt: Any, transform_id: str, *args: Any, **kwargs: Any) -> Any:
            if transform_id in _AUTO_GEOMETRIC:
                transform._apply_image_or_video_transform(tracker, transform_id, *args, **kwargs)
            elif transform_id not in _AUTO_PHOTOMETRIC:
                raise UntrackableTransformError(
                    f"{type(transform).__name__}: unknown operation {transform_id!r}. {_WAY_OUT}"
                )
            return transform._apply_image_or_video_transform(inpt, transform_id, *args, **kwargs)

        tracked = copy.copy(transform)
        tracked._apply_image_or_video_transform = one
        return tracked(image), tracker

    return apply


def _by_pillow(transform: Callable[[Any], Any], name: str) -> Followed:
    """Follow any function of a PIL image that uses only Pillow's methods."""

    def apply(image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
        if not isinstance(image, Image.Image):
            raise UntrackableTransformError(
                f"{name}: its effect on a {type(image).__name__} is unknown. {_OWN_WORD}. {_WAY_OUT}"
            )
        output = transform(TrackedImage.of(image, tracker.view))
        if not isinstance(output, TrackedImage):
            raise UntrackableTransformError(
                f"{name}: it returned a {type(output).__name__} not derived from its input by Pillow's own methods, "
                f"so its geometry is unknown. {_OWN_WORD}. {_WAY_OUT}"
            )
        tracker.view = output.view
        return output.plain(), tracker

    return apply


# --- timm is never imported here: its classes are recognised by module and name -------------------------------------


def _follow_timm(transform: Any, name: str) -> Followed:
    if name in _TIMM_CONVERSIONS:
        return _photometric(transform)
    if name == "RandomErasing":
        return _erasing(transform)
    if name == "CenterCropOrPad":
        return lambda image, tracker: (transform(image), F.center_crop(tracker, list(transform.size)))
    if name == "RandomCropOrPad":
        return _crop_or_pad(transform)
    if name == "AugMixAugment":
        raise UntrackableTransformError(f"{name}: it blends differently warped copies. {_WAY_OUT}")
    if name in ("RandAugment", "AutoAugment"):
        tracked = copy.copy(transform)
        if name == "RandAugment":
            tracked.ops = [_TimmOperation(op) for op in transform.ops]
        else:
            tracked.policy = [[_TimmOperation(op) for op in sub] for sub in transform.policy]
        return _by_pillow(tracked, name)
    return _by_pillow(transform, name)


def _crop_or_pad(transform: Any) -> Followed:
    def apply(image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
        def get_params(inpt: Any, size: Any) -> tuple[int, int]:
            top, left = transform.get_params(inpt, size)
            tracker.view = tracker.view.crop(top, left, size[0], size[1])
            return top, left

        tracked = copy.copy(transform)
        tracked.get_params = get_params
        return tracked(image), tracker

    return apply


class _TimmOperation:
    """One operation of timm's RandAugment. Photometric ones may return a plain image with unchanged geometry."""

    geometric = frozenset({"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel"})

    def __init__(self, operation: Any) -> None:
        self.operation = operation

    def __call__(self, image: TrackedImage) -> Image.Image:
        output: Image.Image = self.operation(image)
        if isinstance(output, TrackedImage) or self.operation.name in self.geometric:
            return output
        return TrackedImage.of(output, image.view)


class _ErasureRecorder(torch.Tensor):
    """A (C, H, W) tensor that records every box assigned to, in a per-thread list."""

    notes = threading.local()

    def __setitem__(self, index: Any, value: Any) -> None:
        _, rows, columns = index
        self.notes.boxes.append((rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start))
        self.as_subclass(torch.Tensor)[index] = value


def _erasing(transform: Callable[[Any], Any]) -> Followed:
    def apply(image: torch.Tensor, tracker: Tracker) -> tuple[Any, Tracker]:
        boxes: list[tuple[int, int, int, int]] = []
        _ErasureRecorder.notes.boxes = boxes
        output = transform(image.as_subclass(_ErasureRecorder)).as_subclass(torch.Tensor)
        for box in boxes:
            tracker.view = tracker.view.erase(*box)
        return output, tracker

    return apply


def transform_with_view(transform: Followed | None, image: Image.Image) -> tuple[Any, View]:
    """Return the transformed image and its view.

    Args:
        transform: Returned by `follow`, or None.
        image: The original.

    Raises:
        UntrackableTransformError: If an operation cannot be followed, or the output's size differs from the view's.
    """
    view = View.of(image.height, image.width)
    if transform is None:
        return image, view
    output, tracker = transform(image, tracker := Tracker.of(view))
    size = _size_of(output)
    if size is not None and size != tracker.view.canvas_size:
        expected = tracker.view.canvas_size
        raise UntrackableTransformError(
            f"the output is {size[0]} x {size[1]} pixels, but the followed operations produce {expected[0]} x "
            f"{expected[1]}: part of the transform resizes or crops in a way that cannot be followed. {_WAY_OUT}"
        )
    return output, tracker.view


def _size_of(output: Any) -> tuple[int, int] | None:
    if isinstance(output, Image.Image):
        return output.height, output.width
    if isinstance(output, torch.Tensor | np.ndarray) and output.ndim >= 2:
        return int(output.shape[-2]), int(output.shape[-1])
    return None
