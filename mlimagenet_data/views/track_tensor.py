"""torchvision v2's functions on tracked images: tensors, and PIL images where torchvision lets us register them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from mlimagenet_data.views.track_pillow import TrackedImage, Trail
from mlimagenet_data.views.track_torchvision import Tracker
from mlimagenet_data.views.view import View

__all__ = ["TrackedTensor", "size_of"]

_GEOMETRIC = ("affine", "center_crop", "crop", "erase", "horizontal_flip", "pad", "perspective", "resize", "resized_crop",
              "rotate", "vertical_flip", "elastic", "five_crop", "ten_crop")  # fmt: skip
_PHOTOMETRIC = ("adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue", "adjust_saturation",
                "adjust_sharpness", "autocontrast", "equalize", "gaussian_blur", "gaussian_noise", "grayscale_to_rgb",
                "invert", "jpeg", "normalize", "permute_channels", "posterize", "rgb_to_grayscale", "solarize",
                "to_dtype")  # fmt: skip


class TrackedTensor(tv_tensors.Image):  # type: ignore[misc]
    """An image tensor with the view of its original; torchvision v2's functions keep it.

    Attributes:
        tracked_view: The view.
        trail: The views that it has gone through.
        before: A copy of the pixels, to notice changes in place.
    """

    tracked_view: View
    trail: Trail
    before: Tensor

    @classmethod
    def of(cls, image: Tensor, view: View, trail: Trail) -> TrackedTensor:
        """Return a tensor with the same pixels (shared, not copied)."""
        tracked: TrackedTensor = image.as_subclass(cls)
        tracked.tracked_view, tracked.trail = view, trail
        tracked.before = image.as_subclass(Tensor).clone()
        return tracked

    @property
    def is_unchanged(self) -> bool:
        """Whether no pixel was changed in place."""
        return torch.equal(torch.nan_to_num(self.as_subclass(Tensor)), torch.nan_to_num(self.before))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let copies of the whole image keep the view; all other results of PyTorch's functions are plain tensors."""
        out = super().__torch_function__(func, types, args, kwargs)
        if isinstance(out, cls) and "tracked_view" not in out.__dict__ and isinstance(args[0], cls):
            return cls.of(out.as_subclass(Tensor), args[0].tracked_view, args[0].trail)
        return out


def size_of(output: Any) -> tuple[int, int] | None:
    """Return (height, width) of an image: PIL, or a tensor or array (..., height, width); None for anything else."""
    if isinstance(output, Image.Image):
        return output.height, output.width
    shape: tuple[int, ...] = tuple(getattr(output, "shape", ()))
    return (int(shape[-2]), int(shape[-1])) if len(shape) >= 2 else None


def _view_after(functional: Callable[..., Any], view: View, output: Any, args: Any, kwargs: Any) -> View:
    tracker = Tracker.of(view)
    tracker.output_size = size_of(output)
    functional(tracker, *args, **kwargs)
    return tracker.view


def _register(name: str, *, is_geometric: bool) -> None:
    functional = getattr(F, name, None)
    if functional is None:  # of another release
        return

    def of_tensor(inpt: TrackedTensor, *args: Any, **kwargs: Any) -> TrackedTensor:
        output, view = functional(inpt.as_subclass(Tensor), *args, **kwargs), inpt.tracked_view
        if is_geometric:
            after = _view_after(functional, view, output, args, kwargs)
            inpt.trail.step(view, after)
            view = after
        return TrackedTensor.of(output, view, inpt.trail)

    def of_pillow(inpt: TrackedImage, *args: Any, **kwargs: Any) -> TrackedImage:
        output, view = functional(inpt.plain(), *args, **kwargs), inpt.view
        return inpt.derived(output, _view_after(functional, view, output, args, kwargs) if is_geometric else view)

    F.register_kernel(functional, TrackedTensor)(of_tensor)
    try:
        from torchvision.transforms.v2.functional._utils import _register_kernel_internal
    except ImportError:  # then only Pillow's methods are followed
        return
    _register_kernel_internal(functional, TrackedImage)(of_pillow)


for _name in _GEOMETRIC:
    _register(_name, is_geometric=True)
for _name in _PHOTOMETRIC:
    _register(_name, is_geometric=False)
