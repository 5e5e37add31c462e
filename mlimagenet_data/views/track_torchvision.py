"""A tv_tensor without pixels whose torchvision v2 kernels keep a `View` up to date.

torchvision lets a tv_tensor class register kernels (`torchvision.transforms.v2.functional.register_kernel`) and calls
them with the same parameters as the image's kernels. `Tracker` registers kernels that update a View. Nothing is guessed
or fitted, later padding does not uncover what an earlier crop hid, erased boxes are known, and KeyPoints
(torchvision >= 0.24.1) are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import functional as F1
from torchvision.transforms.v2 import functional as F

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.view import Matrix, View

__all__ = ["Tracker"]


class Tracker(tv_tensors.TVTensor):  # type: ignore[misc]
    """An empty tensor that passes through torchvision v2 with an image. Kernels replace `view` in place.

    Attributes:
        view: The current view.
        output_size: (height, width) of the image after the operation that comes next, where the caller knows it.
    """

    view: View
    output_size: tuple[int, int] | None

    @classmethod
    def of(cls, view: View) -> Tracker:
        """Return a tracker that starts at `view`."""
        tracker: Tracker = torch.empty(0).as_subclass(cls)
        tracker.view, tracker.output_size = view, None
        return tracker


def _kernel(functional: Callable[..., Any]) -> Callable[[Callable[..., View]], Callable[..., View]]:
    """Register a function that maps a View and the functional's parameters to the new View."""

    def register(function: Callable[..., View]) -> Callable[..., View]:
        def kernel(inpt: Tracker, *args: Any, **kwargs: Any) -> Tracker:
            inpt.view = function(inpt.view, *args, **kwargs)
            return inpt

        F.register_kernel(functional, Tracker)(kernel)
        return function

    return register


def _as_list(value: int | Sequence[int]) -> list[int]:
    return [int(item) for item in value] if isinstance(value, Sequence) else [int(value)]


@_kernel(F.resize)
def _resize(
    view: View, size: Any = None, interpolation: Any = None, max_size: int | None = None, antialias: Any = True
) -> View:
    return view.resize(*_resized_size(view.canvas_size, size, max_size))


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


@_kernel(F.crop)
def _crop(view: View, top: int, left: int, height: int, width: int) -> View:
    return view.crop(top, left, height, width)


@_kernel(F.resized_crop)
def _resized_crop(view: View, top: int, left: int, height: int, width: int, size: Any, *_: Any, **__: Any) -> View:
    return _resize(view.crop(top, left, height, width), size)


@_kernel(F.center_crop)
def _center_crop(view: View, output_size: int | Sequence[int]) -> View:
    sizes = _as_list(output_size)
    height, width = sizes[0], sizes[-1]
    have_h, have_w = view.canvas_size
    if width > have_w or height > have_h:
        left, top = max(0, (width - have_w) // 2), max(0, (height - have_h) // 2)
        right, bottom = max(0, (width - have_w + 1) // 2), max(0, (height - have_h + 1) // 2)
        view = view.pad(left, top, right, bottom)
        have_h, have_w = view.canvas_size
    return view.crop(round((have_h - height) / 2.0), round((have_w - width) / 2.0), height, width)


@_kernel(F.pad)
def _pad(view: View, padding: int | Sequence[int], *_: Any, **__: Any) -> View:
    sides = _as_list(padding)  # one value for all sides, (x, y) or (left, top, right, bottom)
    return view.pad(*(sides[k % len(sides)] for k in range(4)))


@_kernel(F.horizontal_flip)
def _horizontal_flip(view: View) -> View:
    return view.flip_horizontal()


@_kernel(F.vertical_flip)
def _vertical_flip(view: View) -> View:
    return view.flip_vertical()


@_kernel(F.erase)
def _erase(view: View, i: int, j: int, h: int, w: int, *_: Any, **__: Any) -> View:
    return view.erase(i, j, h, w)


def _about(view: View, center: Sequence[float] | None) -> list[float]:
    """Return the fixed point (x, y) of a map; by default the canvas centre."""
    return [float(c) for c in center] if center is not None else [view.canvas_size[1] * 0.5, view.canvas_size[0] * 0.5]


def _affine_matrix(center: list[float], angle: float, translate: Any, scale: float, shear: Any) -> Matrix:
    """Return the map from the output to the input, by the function that torchvision's PIL and tensor kernels share."""
    a, b, c, d, e, f = F1._get_inverse_affine_matrix(center, angle, [float(t) for t in translate], scale, shear)
    return (a, b, c, d, e, f, 0.0, 0.0, 1.0)


@_kernel(F.affine)
def _affine(
    view: View, angle: float, translate: Any, scale: float, shear: Any, *_: Any, center: Any = None, **__: Any
) -> View:
    shears = [float(s) for s in shear] if isinstance(shear, Sequence) else [float(shear)]
    matrix = _affine_matrix(_about(view, center), float(angle), translate, float(scale), [shears[0], (*shears, 0.0)[1]])
    return view.warp(matrix, view.canvas_size)


def _rotate(
    inpt: Tracker, angle: float, interpolation: Any = None, expand: bool = False, center: Any = None, fill: Any = None
) -> Tracker:
    view = inpt.view
    center = None if expand else center  # torchvision ignores the centre here, with a warning
    matrix = _affine_matrix(_about(view, center), -float(angle), (0.0, 0.0), 1.0, [0.0, 0.0])
    if not expand:
        inpt.view = view.warp(matrix, view.canvas_size)
        return inpt
    height, width = view.canvas_size
    if inpt.output_size is None:
        raise UntrackableTransformError("F.rotate: the size of the expanded image is unknown")
    a, b, _, d, e = matrix[:5]
    # Pillow and torchvision round the canvas in different ways, but the centres of both canvases always coincide
    y, x = inpt.output_size[0] * 0.5, inpt.output_size[1] * 0.5
    shifted = (a, b, width * 0.5 - a * x - b * y, d, e, height * 0.5 - d * x - e * y, 0.0, 0.0, 1.0)
    inpt.view = view.warp(shifted, inpt.output_size)
    return inpt


F.register_kernel(F.rotate, Tracker)(_rotate)


@_kernel(F.perspective)
def _perspective(
    view: View, startpoints: Any, endpoints: Any, *_: Any, coefficients: list[float] | None = None, **__: Any
) -> View:
    numbers = coefficients or F1._get_perspective_coeffs(startpoints, endpoints)
    return view.warp((*(float(n) for n in numbers), 1.0), view.canvas_size)  # type: ignore[arg-type]


def _refusal(name: str, why: str) -> None:
    @_kernel(getattr(F, name))
    def refuse(view: View, *args: Any, **kwargs: Any) -> View:
        raise UntrackableTransformError(f"F.{name}: {why}")


_refusal("elastic", "bends the image, so no single map describes the visible part")
_refusal("five_crop", "returns several views of one image; use a single crop instead")
_refusal("ten_crop", "returns several views of one image; use a single crop instead")
