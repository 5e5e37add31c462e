"""Follows the geometry that a transform really applied, so that labels can be computed for what the output shows.

torchvision v2 lets a tv_tensor of one's own take part in every transform: its kernels are called with the very parameters that
the image's kernels get (`torchvision.transforms.v2.functional.register_kernel`). `_Tracker` is such a tensor. It holds no
pixels; its kernels update a `View`. So nothing is guessed or fitted, an earlier crop still hides what a later padding would
uncover, and no KeyPoints (torchvision >= 0.24.1) are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.geometry import Box

__all__ = ["View", "check_trackable", "transform_with_view"]


class View:
    """What a (partly) transformed image shows of the original: an axis-aligned box, possibly flipped, scaled and padded.

    Canvas coordinates are pixel edges, 0 to height and 0 to width. A canvas point (y, x) lies at the original's
    (y_offset + y_scale * y, x_offset + x_scale * x); a scale is negative after a flip.

    Attributes:
        image_size: (height, width) of the original in pixels.
        canvas_size: (height, width) of the current image in pixels.
        visible_px: The part of the original that can be seen, in the original's pixels.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        self.image_size = image_size
        self.canvas_size = image_size
        self.visible_px = Box(0.0, 0.0, float(image_size[0]), float(image_size[1]))
        self._y = (1.0, 0.0)  # scale, offset
        self._x = (1.0, 0.0)

    @property
    def visible(self) -> Box:
        """The visible part as fractions of the original's height and width."""
        height, width = self.image_size
        box = self.visible_px
        return Box(box.top / height, box.left / width, box.bottom / height, box.right / width)

    @property
    def area(self) -> float:
        """Area of the whole canvas, padding included, as a share of the original's area."""
        scale = abs(self._y[0] * self._x[0])
        return scale * self.canvas_size[0] * self.canvas_size[1] / (self.image_size[0] * self.image_size[1])

    @property
    def is_flipped(self) -> tuple[bool, bool]:
        """Whether the canvas is mirrored (vertically, horizontally) against the original."""
        return self._y[0] < 0, self._x[0] < 0

    def crop(self, top: float, left: float, height: int, width: int) -> None:
        """Cut a box out of the canvas; outside of the canvas there is padding."""
        self._y = (self._y[0], self._y[1] + self._y[0] * top)
        self._x = (self._x[0], self._x[1] + self._x[0] * left)
        self.canvas_size = (height, width)
        y0, y1 = sorted((self._y[1], self._y[1] + self._y[0] * height))
        x0, x1 = sorted((self._x[1], self._x[1] + self._x[0] * width))
        self.visible_px = self.visible_px.intersect(Box(y0, x0, y1, x1))

    def pad(self, left: int, top: int, right: int, bottom: int) -> None:
        """Add borders; negative ones crop. Mirrored or repeated content of a border does not count as visible."""
        height, width = self.canvas_size
        self.crop(-top, -left, height + top + bottom, width + left + right)

    def resize(self, height: int, width: int) -> None:
        """Scale the canvas to a new size."""
        self._y = (self._y[0] * self.canvas_size[0] / height, self._y[1])
        self._x = (self._x[0] * self.canvas_size[1] / width, self._x[1])
        self.canvas_size = (height, width)

    def flip_vertical(self) -> None:
        """Mirror top and bottom."""
        self._y = (-self._y[0], self._y[1] + self._y[0] * self.canvas_size[0])

    def flip_horizontal(self) -> None:
        """Mirror left and right."""
        self._x = (-self._x[0], self._x[1] + self._x[0] * self.canvas_size[1])


class _Tracker(tv_tensors.TVTensor):  # type: ignore[misc]
    """An empty tensor that carries a View through torchvision v2. The View is changed in place and outlives the tensor."""

    view: View

    @classmethod
    def of(cls, view: View) -> _Tracker:
        tracker: _Tracker = torch.empty(0).as_subclass(cls)
        tracker.view = view
        return tracker


# --- kernels: the signatures are those of torchvision.transforms.v2.functional ------------------------------------------


def _resize(
    inpt: _Tracker, size: int | Sequence[int] | None = None, *_: Any, max_size: int | None = None, **__: Any
) -> _Tracker:
    inpt.view.resize(*_resized_size(inpt.view.canvas_size, size, max_size))
    return inpt


def _resized_size(canvas: tuple[int, int], size: int | Sequence[int] | None, max_size: int | None) -> tuple[int, int]:
    """Return the output size of `F.resize`: an int or a list of one is the length of the shorter edge."""
    if isinstance(size, Sequence) and len(size) == 2:
        return int(size[0]), int(size[1])
    short, long = sorted(canvas)
    if size is None:
        if max_size is None:
            raise UntrackableTransformError("Resize: size and max_size are both None")
        new_short, new_long = int(max_size * short / long), max_size
    else:
        new_short = int(size[0] if isinstance(size, Sequence) else size)
        new_long = int(new_short * long / short)
        if max_size is not None and new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    return (new_short, new_long) if canvas[0] <= canvas[1] else (new_long, new_short)


def _as_list(value: int | Sequence[int]) -> list[int]:
    return [int(item) for item in value] if isinstance(value, Sequence) else [int(value)]


def _crop(inpt: _Tracker, top: int, left: int, height: int, width: int) -> _Tracker:
    inpt.view.crop(top, left, height, width)
    return inpt


def _resized_crop(
    inpt: _Tracker, top: int, left: int, height: int, width: int, size: int | Sequence[int], *_: Any, **__: Any
) -> _Tracker:
    inpt.view.crop(top, left, height, width)
    return _resize(inpt, size)


def _center_crop(inpt: _Tracker, output_size: int | Sequence[int]) -> _Tracker:
    sizes = _as_list(output_size)
    height, width = sizes[0], sizes[-1]
    have_h, have_w = inpt.view.canvas_size
    if width > have_w or height > have_h:
        left, top = max(0, (width - have_w) // 2), max(0, (height - have_h) // 2)
        right, bottom = max(0, (width - have_w + 1) // 2), max(0, (height - have_h + 1) // 2)
        inpt.view.pad(left, top, right, bottom)
        have_h, have_w = inpt.view.canvas_size
    inpt.view.crop(round((have_h - height) / 2.0), round((have_w - width) / 2.0), height, width)
    return inpt


def _pad(inpt: _Tracker, padding: int | Sequence[int], *_: Any, **__: Any) -> _Tracker:
    sides = _as_list(padding)  # one for all, (x, y) or (left, top, right, bottom)
    inpt.view.pad(*(sides[k % len(sides)] for k in range(4)))
    return inpt


def _horizontal_flip(inpt: _Tracker) -> _Tracker:
    inpt.view.flip_horizontal()
    return inpt


def _vertical_flip(inpt: _Tracker) -> _Tracker:
    inpt.view.flip_vertical()
    return inpt


def _refusal(name: str) -> Callable[..., _Tracker]:
    def kernel(inpt: _Tracker, *args: Any, **kwargs: Any) -> _Tracker:
        raise UntrackableTransformError(
            f"F.{name}: crops, resizing, padding and flips are followed, this is not. {_WAY_OUT}"
        )

    return kernel


_WAY_OUT = (
    "Take it out of the transform, do it after the loader, or pass untrackable='whole' to MultiLabelImageNet to get the "
    "whole image's labels whatever the transform shows"
)
for _functional, _kernel in {
    F.resize: _resize,
    F.crop: _crop,
    F.resized_crop: _resized_crop,
    F.center_crop: _center_crop,
    F.pad: _pad,
    F.horizontal_flip: _horizontal_flip,
    F.vertical_flip: _vertical_flip,
}.items():
    F.register_kernel(_functional, _Tracker)(_kernel)
for _name in ("rotate", "affine", "perspective", "elastic", "erase", "five_crop", "ten_crop"):
    F.register_kernel(getattr(F, _name), _Tracker)(_refusal(_name))


# --- which transforms can be followed --------------------------------------------------------------------------------------

_CONTAINERS = (v2.Compose, v2.RandomApply, v2.RandomChoice, v2.RandomOrder)
# v2 transforms that change geometry without a functional of their own for our tensor, or whose effect is unknown
_UNTRACKED = (v2.AutoAugment, v2.RandAugment, v2.TrivialAugmentWide, v2.AugMix, v2.Lambda, v2.RandomIoUCrop)


def _leaves(transform: Any) -> Iterator[Any]:
    if isinstance(transform, _CONTAINERS):
        for child in transform.transforms:
            yield from _leaves(child)
    else:
        yield transform


def check_trackable(transform: Callable[..., Any]) -> None:
    """Check that every part of a transform can be followed.

    A subclass of `v2.Transform` from elsewhere is accepted if it says, by a true attribute `tracks_views`, that it changes
    geometry through `torchvision.transforms.v2.functional` only.

    Raises:
        UntrackableTransformError: Naming the first part that cannot be followed, and the way out.
    """
    for leaf in _leaves(transform):
        name = type(leaf).__name__ if not hasattr(leaf, "__name__") else leaf.__name__
        if not isinstance(leaf, v2.Transform):
            raise UntrackableTransformError(f"{name}: not a transform of torchvision.transforms.v2. {_WAY_OUT}")
        if isinstance(leaf, _UNTRACKED):
            raise UntrackableTransformError(f"{name}: its geometry cannot be followed. {_WAY_OUT}")
        if not type(leaf).__module__.startswith("torchvision.") and not getattr(leaf, "tracks_views", False):
            raise UntrackableTransformError(
                f"{name}: unknown whether it changes geometry. If it does so only by torchvision.transforms.v2.functional, "
                f"set `tracks_views = True` on the class. {_WAY_OUT}"
            )


def transform_with_view(transform: Callable[..., Any] | None, image: Image.Image) -> tuple[Any, View]:
    """Return the transformed image and what it shows.

    Args:
        transform: A torchvision v2 transform that `check_trackable` accepts, or None.
        image: The original.

    Raises:
        UntrackableTransformError: If a geometric operation cannot be followed, or the output's size is not the followed one.
    """
    view = View((image.height, image.width))
    if transform is None:
        return image, view
    output, _ = transform(image, _Tracker.of(view))
    size = _size_of(output)
    if size is not None and size != view.canvas_size:
        raise UntrackableTransformError(
            f"the output is {size[0]} x {size[1]} pixels, but the operations followed lead to "
            f"{view.canvas_size[0]} x {view.canvas_size[1]}: some part of {transform} resizes or crops untracked. {_WAY_OUT}"
        )
    return output, view


def _size_of(output: Any) -> tuple[int, int] | None:
    if isinstance(output, Image.Image):
        return output.height, output.width
    if isinstance(output, torch.Tensor) and output.ndim >= 2:
        return int(output.shape[-2]), int(output.shape[-1])
    return None
