"""Geometry tracking for transforms of torchvision v2, torchvision v1, timm, or your own.

`follow` turns a transform into a function of an image and a `Tracker`. It keeps the transform itself and walks through
its parts at every call, so that whatever the user changes later counts. torchvision v2's own classes transform the
tracker with the image. torchvision v1's geometric classes act as their v2 equivalents. All others are called with an image
that carries its view. Other cases are an error: geometry is never guessed.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.follow_timm import TIMM, is_timm
from mlimagenet_data.views.proxies import (
    WAY_OUT,
    Followed,
    Pair,
    Proxy,
    check_size,
    is_altered,
    name_of,
    run_with_proxies,
    tracked,
    untracked,
)
from mlimagenet_data.views.track_pillow import MarkedImage, TrackedImage, Trail
from mlimagenet_data.views.track_tensor import TrackedTensor, size_of
from mlimagenet_data.views.track_torchvision import Tracker
from mlimagenet_data.views.view import View

__all__ = ["Followed", "follow", "transform_with_view"]

Handler = Callable[[Any, Any, Tracker], tuple[Any, Tracker]]

_OWN_WORD = (
    "If every pixel stays in place, or moves only by Pillow's methods or torchvision.transforms.v2.functional, set its "
    "attribute `tracks_views` to True"
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
_REFUSED_V1 = {
    v1.ElasticTransform: _REFUSED_V2[v2.ElasticTransform],
    v1.FiveCrop: _REFUSED_V2[v2.FiveCrop],
    v1.TenCrop: _REFUSED_V2[v2.TenCrop],
    v1.AugMix: _REFUSED_V2[v2.AugMix],
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
_SEQUENCES = (v1.Compose, v2.Compose, torch.nn.Sequential)
_CONTAINERS = (
    *_SEQUENCES, v1.RandomApply, v1.RandomChoice, v1.RandomOrder, v2.RandomApply, v2.RandomChoice, v2.RandomOrder,
)  # fmt: skip


def follow(transform: Callable[..., Any]) -> Followed:
    """Return a function that applies a transform to an image and updates the tracker's view.

    Raises:
        TypeError: If the transform is not callable.
        UntrackableTransformError: If a part cannot be followed; the message names the first such part and the way out.
            Parts whose geometry is known only when applied, and parts that are changed later, raise it then.
    """
    if not callable(transform):
        raise TypeError(
            f"transform must be callable, got a {type(transform).__name__} "
            "(timm's create_transform(separate=True) returns a tuple of three)"
        )
    _check(transform)
    return functools.partial(_apply, transform)


def _apply(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Apply a transform, or a part of one, to an image and its tracker."""
    return (
        _marked(transform, image, tracker)
        if _is_marked(transform)
        else _handler_of(transform)(transform, image, tracker)
    )


def _handler_of(transform: Any) -> Handler:
    """Return the handler of a transform; hooks and methods of the instance's own run only in its own code."""
    handler = _handler(_class_of(transform))
    return _own if handler is not _refuse and is_altered(transform) else handler


def _class_of(transform: Any) -> Any:
    return type(transform)


def _is_marked(transform: Any) -> bool:
    own = getattr(transform, "__dict__", {})  # asking a module for an attribute that it lacks is slow
    return bool(own["tracks_views"] if "tracks_views" in own else _is_marked_class(_class_of(transform)))


@functools.lru_cache(maxsize=1024)
def _is_marked_class(kind: Any) -> bool:
    return bool(getattr(kind, "tracks_views", False))


def _check(transform: Any) -> None:
    """Raise for the first part that is known to be untrackable."""
    if _is_marked(transform):
        return
    if isinstance(transform, _CONTAINERS) and not _runs_itself(_class_of(transform)):
        for part in _parts(transform):
            _check(part)
    elif _handler(_class_of(transform)) is _refuse:
        _refuse(transform, None, None)


def _parts(container: Any) -> Any:
    return container if isinstance(container, torch.nn.Sequential) else container.transforms


@functools.lru_cache(maxsize=1024)
def _runs_itself(kind: Any) -> bool:
    """Return whether a container's class has code of its own for running its parts."""
    base = next(known for known in _CONTAINERS if issubclass(kind, known))
    return any(getattr(kind, name, None) is not getattr(base, name, None) for name in ("forward", "__call__"))


@functools.lru_cache(maxsize=1024)
def _handler(kind: Any) -> Handler:  # noqa: PLR0911 - one line per kind is easiest to read
    """Return the function that applies transforms of a class."""
    if issubclass(kind, _CONTAINERS):
        return _own if _runs_itself(kind) else _sequence if issubclass(kind, _SEQUENCES) else _container
    if issubclass(kind, v2.Transform):
        if not kind.__module__.startswith("torchvision.") or issubclass(kind, tuple(_REFUSED_V2)):
            return _refuse
        if issubclass(kind, _AUTO_V2):
            return _auto_augment
        return _directly if _has_steps(kind) or _is_geometric(kind) else _photometric
    if kind in _V1_TO_V2:
        return _as_v2
    if kind is v1.RandomCrop:
        return _v1_random_crop
    if kind in _V1_PHOTOMETRIC:
        return _photometric
    if kind in _REFUSED_V1:
        return _refuse
    if is_timm(kind):
        return TIMM.get(kind.__name__, _own)
    return _own


def _refuse(transform: Any, image: Any, tracker: Any) -> tuple[Any, Tracker]:
    refused = {**_REFUSED_V2, **_REFUSED_V1}
    why = next((reason for kind, reason in refused.items() if isinstance(transform, kind)), None)
    why = why or f"not torchvision's own, so its geometry is unknown. {_OWN_WORD}"
    raise UntrackableTransformError(f"{name_of(transform)}: {why}. {WAY_OUT}")


def _sequence(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    for part in _parts(transform):
        image, tracker = _apply(part, image, tracker)
    return image, tracker


def _container(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Run a container's own code on stand-ins for all of its parts."""
    twin = object.__new__(type(transform))
    twin.__dict__.update(transform.__dict__)
    if "_modules" in twin.__dict__:  # where a ModuleList of parts is
        twin.__dict__["_modules"] = {k: v for k, v in twin.__dict__["_modules"].items() if k != "transforms"}
    twin.__dict__["transforms"] = [Proxy(part, functools.partial(_apply, part)) for part in transform.transforms]
    pair = twin(Pair(image, tracker))
    return pair.image, pair.tracker


@functools.lru_cache(maxsize=1024)
def _has_steps(kind: Any) -> bool:
    """Return whether a v2 class draws its parameters and applies them in separate steps, as current releases do."""
    flips = kind.forward is v2.RandomHorizontalFlip.forward
    return hasattr(kind, "make_params") and (flips or kind.forward is v2.Transform.forward)


@functools.lru_cache(maxsize=1024)
def _is_geometric(kind: Any) -> bool:
    return kind.__module__.rpartition(".")[2] not in _PHOTOMETRIC_V2


def _directly(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Draw a v2 transform's parameters once and apply them to the image and, if geometric, to the tracker.

    This repeats `forward` without flattening nested inputs, which takes longer than following the geometry. Transforms
    that override `forward`, and torchvision releases with other names for these steps, are called directly.
    """
    kind = _class_of(transform)
    if not _has_steps(kind):
        output, tracker = transform(image, tracker)
        return output, tracker
    transform.check_inputs([image])
    if kind.forward is v2.RandomHorizontalFlip.forward and torch.rand(1) >= transform.p:
        return image, tracker
    if not transform._needs_transform_list([image])[0]:  # ToDtype and similar transforms skip PIL images
        return image, tracker
    params = transform.make_params([image])
    output = transform.transform(image, params)
    if _is_geometric(kind):
        tracker.output_size = size_of(output)
        tracker = transform.transform(tracker, params)
    return output, tracker


def _photometric(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Apply a transform that is known to keep every pixel in place."""
    return transform(image), tracker


_equivalents: weakref.WeakKeyDictionary[Any, tuple[list[Any], Any]] = weakref.WeakKeyDictionary()


def _as_v2(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Apply a v1 transform as its v2 equivalent, which is made again when an argument changes."""
    target, names = _V1_TO_V2[type(transform)]
    values = [getattr(transform, name) for name in names]
    known, equivalent = _equivalents.get(transform, (None, None))
    if known != values:
        equivalent = target(**dict(zip(names, values, strict=True)))
        _equivalents[transform] = copy.deepcopy(values), equivalent
    return _apply(equivalent, image, tracker)


def _v1_random_crop(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Run it with its own draws: where one side fits already, v2 draws one number less."""
    drawn: list[tuple[int, int, int, int]] = []

    def get_params(img: Any, size: Any) -> tuple[int, int, int, int]:
        drawn.append(transform.get_params(img, size))
        return drawn[0]

    twin = copy.copy(transform)
    twin.get_params = get_params
    output = twin(image)
    if transform.padding is not None:
        tracker = F.pad(tracker, transform.padding)
    height, width = tracker.view.canvas_size
    if transform.pad_if_needed:
        tracker = F.pad(tracker, [max(transform.size[1] - width, 0), max(transform.size[0] - height, 0)])
    return output, F.crop(tracker, *drawn[0])


def _auto_augment(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Follow AutoAugment and similar policies: apply each geometric operation to both image and tracker."""

    def one(inpt: Any, transform_id: str, *args: Any, **kwargs: Any) -> Any:
        if transform_id in _AUTO_GEOMETRIC:
            transform._apply_image_or_video_transform(tracker, transform_id, *args, **kwargs)
        elif transform_id not in _AUTO_PHOTOMETRIC:
            raise UntrackableTransformError(f"{name_of(transform)}: unknown operation {transform_id!r}. {WAY_OUT}")
        return transform._apply_image_or_video_transform(inpt, transform_id, *args, **kwargs)

    twin = copy.copy(transform)
    twin._apply_image_or_video_transform = one
    return twin(image), tracker


def _own(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Call a transform of the user's, or of timm's, with an image that carries its view."""
    name = name_of(transform)
    try:
        output = run_with_proxies(transform, tracked(image, tracker, name), _stand_in)
        return untracked(output, name)
    except UntrackableTransformError as error:
        if WAY_OUT in str(error):
            raise
        named = str(error) if str(error).startswith(f"{name}:") else f"{name}: {error}"
        raise UntrackableTransformError(f"{named}. {_OWN_WORD}. {WAY_OUT}") from error


def _stand_in(value: Any) -> Any:
    """Return a stand-in for a part of a user's transform, or the value itself if it is none."""
    return Proxy(value, functools.partial(_apply, value)) if _is_part(value) else value


def _is_part(value: Any, depth: int = 3) -> bool:
    if not callable(value) or isinstance(value, type | Proxy):
        return False
    if _is_marked(value):
        return True
    if depth == 0 or hasattr(value, "__code__"):  # functions get the image itself
        return False
    kind = _class_of(value)
    if isinstance(value, _CONTAINERS) or kind.__module__.startswith("torchvision.transforms") or is_timm(kind):
        return True
    held = [item for attribute in getattr(value, "__dict__", {}).values() for item in _flat(attribute)]
    return any(_is_part(item, depth - 1) for item in held)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple | torch.nn.ModuleList):
        return [item for one in value for item in _flat(one)]
    return [item for one in value.values() for item in _flat(one)] if type(value) is dict else [value]


def _marked(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    """Call a part that is marked `tracks_views`: by the user's word, what cannot be followed keeps pixels in place."""
    name, trail = name_of(transform), Trail(tracker.view)
    given = image
    if isinstance(image, Image.Image):
        given = MarkedImage.of(image, tracker.view)
        given.trail = trail
    elif isinstance(image, torch.Tensor):
        given = TrackedTensor.of(image, tracker.view, trail)
    output = transform(given)
    if isinstance(output, TrackedImage):
        return output.plain(), Tracker.of(output.view)
    if isinstance(output, TrackedTensor):
        return output.as_subclass(torch.Tensor), Tracker.of(output.tracked_view)
    if trail.forks:
        raise UntrackableTransformError(
            f"{name}: it made several images of its input, and which of them it returned is unknown. {WAY_OUT}"
        )
    check_size(output, trail.latest, f"{name}: ")
    return output, Tracker.of(trail.latest)


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
    output, tracker = transform(image, Tracker.of(view))
    if isinstance(output, Image.Image | torch.Tensor | np.ndarray):
        check_size(output, tracker.view, "")
    return output, tracker.view
