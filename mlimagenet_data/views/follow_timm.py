"""timm's transforms that need more than Pillow's methods. timm is never imported: its classes are known by name."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.proxies import WAY_OUT, name_of
from mlimagenet_data.views.track_torchvision import Tracker

__all__ = ["TIMM", "is_timm"]


def is_timm(kind: type) -> bool:
    """Return whether a class is one of timm's transforms."""
    return kind.__module__.startswith("timm.data")


def _conversion(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    return transform(image), tracker


def _center_crop_or_pad(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    return transform(image), F.center_crop(tracker, list(transform.size))


def _crop_or_pad(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    def get_params(inpt: Any, size: Any) -> tuple[int, int]:
        top, left = transform.get_params(inpt, size)
        tracker.view = tracker.view.crop(top, left, size[0], size[1])
        return top, left

    twin = copy.copy(transform)
    twin.get_params = get_params
    return twin(image), tracker


def _pad(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    def get_params(inpt: Any, size: Any) -> tuple[int, int, int, int]:
        left, top, right, bottom = transform.get_params(inpt, size)
        tracker.view = tracker.view.pad(left, top, right, bottom)
        return left, top, right, bottom

    twin = copy.copy(transform)
    twin.get_params = get_params
    return twin(image), tracker


def _aug_mix(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    raise UntrackableTransformError(f"{name_of(transform)}: it blends differently warped copies. {WAY_OUT}")


class _ErasureRecorder(torch.Tensor):
    """A (C, H, W) tensor that records every box assigned to, in a per-thread list."""

    notes = threading.local()

    def __setitem__(self, index: Any, value: Any) -> None:
        _, rows, columns = index
        self.notes.boxes.append((rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start))
        self.as_subclass(torch.Tensor)[index] = value


def _erasing(transform: Any, image: Any, tracker: Tracker) -> tuple[Any, Tracker]:
    if isinstance(image, Image.Image) or image.ndim != 3:
        raise UntrackableTransformError(f"{name_of(transform)}: it needs a tensor of shape (C, H, W)")
    boxes: list[tuple[int, int, int, int]] = []
    _ErasureRecorder.notes.boxes = boxes
    output = transform(image.as_subclass(_ErasureRecorder)).as_subclass(torch.Tensor)
    for box in boxes:
        tracker.view = tracker.view.erase(*box)
    return output, tracker


# by class name; all others are called with an image that carries its view
TIMM: dict[str, Callable[[Any, Any, Tracker], tuple[Any, Tracker]]] = {
    "ToNumpy": _conversion,
    "ToTensor": _conversion,
    "MaybeToTensor": _conversion,
    "MaybePILToTensor": _conversion,
    "RandomErasing": _erasing,
    "CenterCropOrPad": _center_crop_or_pad,
    "RandomCropOrPad": _crop_or_pad,
    "RandomPad": _pad,
    "AugMixAugment": _aug_mix,
}
