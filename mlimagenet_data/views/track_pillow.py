"""A PIL image subclass whose methods keep its `View` up to date, and that nothing else can read or change unnoticed.

torchvision v1, timm and most hand-written transforms of PIL images reduce to Pillow's methods. Those that move pixels
update the view, those that change colours keep it, and reading is free. Everything else (ImageDraw, ImageChops, masks,
methods of later releases) needs the image's memory, `Image.im`, which is handed out only to the few functions of Pillow
whose effect is known. All others are refused by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Self

from PIL import Image

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.view import Matrix, View

__all__ = ["PHOTOMETRIC", "READING", "MarkedImage", "TrackedImage", "Trail"]

# return an image with the pixels in place
PHOTOMETRIC = ("convert", "copy", "getchannel", "point", "quantize", "remap_palette")
# return no image and change nothing
READING = (
    "__array_interface__", "__arrow_c_array__", "__arrow_c_schema__", "__eq__", "__repr__", "_repr_image", "_repr_jpeg_",
    "_repr_png_", "entropy", "get_child_images", "get_flattened_data", "getbands", "getbbox", "getcolors",
    "getexif", "getextrema", "getpalette", "getpixel", "getprojection", "getxmp", "has_transparency_data", "histogram",
    "save", "show", "tell", "tobitmap", "tobytes", "toqimage", "toqpixmap", "verify",
)  # fmt: skip


_OURS = ("view", "trail", "_turns")  # attributes that plain images lack


class TrackedImage(Image.Image):
    """A PIL image with the view of its original."""

    view: View

    @classmethod
    def of(cls, image: Image.Image, view: View) -> Self:
        """Return an image with the same pixels (shared, not copied)."""
        if view.canvas_size != (image.height, image.width):
            raise UntrackableTransformError(
                f"Pillow returned an image of {image.height} x {image.width} pixels; expected {view.canvas_size}"
            )
        image.load()
        tracked = cls.__new__(cls)
        tracked.__dict__.update(image.__dict__)
        tracked.view = view
        return tracked

    def plain(self) -> Image.Image:
        """Return a PIL image with the same pixels (shared, not copied)."""
        image = Image.Image()
        image.__dict__.update({name: value for name, value in self.__dict__.items() if name not in _OURS})
        return image

    def derived(self, image: Image.Image, view: View) -> TrackedImage:
        """Return an image made from this one, with its own view."""
        return self.of(image, view)

    def _new(self, im: Any) -> TrackedImage:
        return self.derived(super()._new(im), self.view)

    def _become(self, image: Image.Image, view: View) -> None:
        """Take over the pixels of a plain image that was changed in place, and its view."""
        self.__dict__.update(image.__dict__)
        self.view = view

    # --- what others may do with the image's memory ---------------------------------------------------------------

    @property
    def im(self) -> Any:  # type: ignore[override]
        """The image's memory, for the functions of Pillow whose effect is known."""
        if not (_take_turn(self) or self._may_lend(sys._getframe(1))):
            raise self._refusal(sys._getframe(1))
        return self.plain().im

    @im.setter
    def im(self, memory: Any) -> None:
        raise self._refusal(sys._getframe(1))

    def load(self) -> _Pixels:  # type: ignore[override]  # noqa: D102
        self._is_combined(sys._getframe(1))  # images that take part get the view before one of them makes the result
        return _Pixels(self)

    def _refusal(self, frame: FrameType | None) -> UntrackableTransformError:
        """Return the error that names the outermost of Pillow's functions that are running."""
        name = "Image.im"
        while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("PIL."):
            name = f"{frame.f_globals['__name__']}.{getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}"
            frame = frame.f_back
        return UntrackableTransformError(f"{name} reads or changes the image in a way that cannot be followed")

    def _may_lend(self, frame: FrameType) -> bool:
        """Return whether a function of Pillow keeps every pixel in place, or pastes the image where it can be followed.

        Such a function may combine the image with others of the same view, or with images of a single colour; these get
        the view, since they are combined in place.
        """
        if frame.f_code.co_name == "<listcomp>" and frame.f_back is not None:
            frame = frame.f_back
        if frame.f_code is Image.Image.paste.__code__:
            return self._is_pasted(*(frame.f_locals[name] for name in ("self", "im", "box", "mask")))
        return self._is_combined(frame)

    def _is_combined(self, frame: FrameType) -> bool:
        if frame.f_code is Image.blend.__code__:
            return self._adopts(frame.f_locals["im1"], frame.f_locals["im2"])
        if frame.f_code is Image.merge.__code__:
            return self._adopts(*frame.f_locals["bands"])
        return False

    def _adopts(self, *images: Image.Image) -> bool:
        for image in images:
            if isinstance(image, TrackedImage):
                if image.view != self.view:
                    return False
            elif image.size != self.size or not _is_of_one_colour(image):
                return False
        for image in images:
            _adopt(image, self)
        return True

    def _is_pasted(self, canvas: Image.Image, source: Any, box: Any, mask: Any) -> bool:
        """Return whether the image is pasted onto a single colour: then the canvas becomes the image with borders.

        A mask must have the source's view, such as the source's own transparency.
        """
        if self is not source:
            return self is mask and isinstance(canvas, TrackedImage) and _take_turn(canvas)
        if isinstance(canvas, TrackedImage):  # it became one a moment ago; the source may be its own mask
            return self is mask and _take_turn(canvas)
        if (mask is not None and getattr(mask, "view", None) != self.view) or not _is_of_one_colour(canvas):
            return False
        _adopt(canvas, self)
        canvas.view = self.view.crop(-box[1], -box[0], canvas.height, canvas.width)  # type: ignore[attr-defined]
        canvas.__dict__["_turns"] = 1 if mask is None else 2  # the paste uses the memory of the canvas and of the mask
        return True

    # --- methods that move pixels ---------------------------------------------------------------------------------

    def crop(self, box: Any = None) -> TrackedImage:  # noqa: D102
        result = self.plain().crop(box)
        if box is None:
            return self.derived(result, self.view)
        left, top, right, bottom = (round(side) for side in box)
        return self.derived(result, self.view.crop(top, left, abs(bottom - top), abs(right - left)))

    def resize(self, size: Any, resample: Any = None, box: Any = None, reducing_gap: Any = None) -> TrackedImage:  # noqa: D102
        result = self.plain().resize(size, resample, box, reducing_gap)
        matrix = _matrix(Image.Transform.EXTENT, box or (0, 0, self.width, self.height), result)
        return self.derived(result, self.view.warp(matrix, (result.height, result.width)))

    def reduce(self, factor: Any, box: Any = None) -> TrackedImage:  # noqa: D102
        result = self.plain().reduce(factor, box)
        left, top, right, bottom = box or (0, 0, self.width, self.height)
        scale_x, scale_y = factor if isinstance(factor, Sequence) else (factor, factor)
        shown = self.view.crop(top, left, bottom - top, right - left)  # the last pixel may extend beyond the box
        matrix = (float(scale_x), 0.0, 0.0, 0.0, float(scale_y), 0.0, 0.0, 0.0, 1.0)
        return self.derived(result, shown.warp(matrix, (result.height, result.width)))

    def thumbnail(self, size: Any, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        image = self.plain()
        image.thumbnail(size, *args, **kwargs)
        self._become(image, self.view.resize(image.height, image.width))

    def transpose(self, method: Any) -> TrackedImage:  # noqa: D102
        width, height = float(self.width), float(self.height)
        kinds = Image.Transpose
        # maps from the new canvas to the old one
        matrices: dict[Any, Matrix] = {
            kinds.FLIP_LEFT_RIGHT: (-1, 0, width, 0, 1, 0, 0, 0, 1),
            kinds.FLIP_TOP_BOTTOM: (1, 0, 0, 0, -1, height, 0, 0, 1),
            kinds.ROTATE_180: (-1, 0, width, 0, -1, height, 0, 0, 1),
            kinds.ROTATE_90: (0, -1, width, 1, 0, 0, 0, 0, 1),
            kinds.ROTATE_270: (0, 1, 0, -1, 0, height, 0, 0, 1),
            kinds.TRANSPOSE: (0, 1, 0, 1, 0, 0, 0, 0, 1),
            kinds.TRANSVERSE: (0, -1, width, -1, 0, height, 0, 0, 1),
        }
        result = self.plain().transpose(method)
        return self.derived(result, self.view.warp(matrices[method], (result.height, result.width)))

    def transform(self, size: Any, method: Any, data: Any = None, *args: Any, **kwargs: Any) -> TrackedImage:  # noqa: D102
        if hasattr(method, "getdata"):  # of PIL.ImageTransform
            method, data = method.getdata()
        result = self.plain().transform(size, method, data, *args, **kwargs)
        return self.derived(result, self.view.warp(_matrix(method, data, result), (result.height, result.width)))

    # --- methods that change colours, or overwrite ----------------------------------------------------------------

    def filter(self, filter: Any) -> TrackedImage:  # noqa: D102
        kind = filter if isinstance(filter, type) else type(filter)
        if kind.__module__ != "PIL.ImageFilter":
            raise UntrackableTransformError(f"Image.filter: the effect of {kind.__name__} is unknown")
        return self.derived(self.plain().filter(filter), self.view)

    def split(self) -> tuple[TrackedImage, ...]:  # noqa: D102
        return tuple(self.derived(band, self.view) for band in self.plain().split())

    def paste(self, im: Any, box: Any = None, mask: Any = None) -> None:  # noqa: D102
        if isinstance(im, Image.Image) or mask is not None or isinstance(box, Image.Image):
            raise UntrackableTransformError(
                "Image.paste onto the image: the effect of other images and of masks is unknown; paste a colour into a box"
            )
        image = self.plain()
        image.paste(im, box)
        left, top, right, bottom = (0, 0, self.width, self.height) if box is None else box
        self._become(image, self.view.erase(top, left, bottom - top, right - left))

    def putalpha(self, alpha: Any) -> None:  # noqa: D102
        if isinstance(alpha, Image.Image) and getattr(alpha, "view", None) != self.view:
            raise UntrackableTransformError("Image.putalpha: the effect of another image is unknown")
        image = self.plain()
        image.putalpha(alpha.plain() if isinstance(alpha, TrackedImage) else alpha)
        self._become(image, self.view)

    def putpalette(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        image = self.plain()
        image.putpalette(*args, **kwargs)
        self._become(image, self.view)

    def apply_transparency(self) -> None:  # noqa: D102
        image = self.plain()
        image.apply_transparency()
        self._become(image, self.view)

    def draft(self, *args: Any) -> None:
        """Do nothing, as for every image that is loaded."""

    def close(self) -> None:
        """Do nothing: others hold the same pixels."""

    def getdata(self, band: int | None = None) -> Any:  # noqa: D102
        return self.plain().copy().getdata(band)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Image.Image.copy, (self.plain(),)  # a plain image

    __hash__ = None  # type: ignore[assignment]


class Trail:
    """The views that a marked part has gone through.

    Attributes:
        latest: The latest view.
        forks: Whether it went on from an earlier view than the latest, so that the latest need not be the result's.
    """

    def __init__(self, view: View) -> None:
        self.latest, self.forks = view, False

    def step(self, before: View, after: View) -> None:
        """Note that an image with the view `before` gave one with the view `after`."""
        if after != before:
            self.forks |= before != self.latest
            self.latest = after


class MarkedImage(TrackedImage):
    """A tracked image for parts that are marked as keeping pixels in place otherwise: nothing is refused."""

    trail: Trail

    def derived(self, image: Image.Image, view: View) -> MarkedImage:
        """Return an image made from this one, with its own view."""
        self.trail.step(self.view, view)
        out = self.of(image, view)
        out.trail = self.trail
        return out

    def _become(self, image: Image.Image, view: View) -> None:
        self.trail.step(self.view, view)
        super()._become(image, view)

    @property
    def im(self) -> Any:
        """The image's memory."""
        self._may_lend(sys._getframe(1))  # images that take part get the view
        return self.plain().im

    @im.setter
    def im(self, memory: Any) -> None:
        image = self.plain()
        image.im = memory
        self.__dict__.update(image.__dict__)

    def load(self) -> Any:  # noqa: D102
        self._is_combined(sys._getframe(1))
        return self.plain().load()

    def paste(self, im: Any, box: Any = None, mask: Any = None) -> None:  # noqa: D102
        if isinstance(im, Image.Image) or mask is not None or isinstance(box, Image.Image):
            Image.Image.paste(self, im, box, mask)
        else:
            super().paste(im, box)


class _Pixels:
    """Read-only access to pixels, in place of the writable one that `Image.load` returns."""

    def __init__(self, image: TrackedImage) -> None:
        self._image = image

    def __getitem__(self, place: Any) -> Any:
        return self._image.getpixel(place)

    def __setitem__(self, place: Any, value: Any) -> None:
        raise UntrackableTransformError("Image.load()[x, y] = ... changes the image in a way that cannot be followed")


def _take_turn(image: TrackedImage) -> bool:
    """Return whether the image's memory was promised to the paste that is running."""
    turns = image.__dict__.get("_turns", 0)
    image.__dict__["_turns"] = max(turns - 1, 0)
    return bool(turns)


def _is_of_one_colour(image: Image.Image) -> bool:
    extrema: Any = image.getextrema()
    return all(low == high for low, high in (extrema if isinstance(extrema[0], tuple) else [extrema]))


def _adopt(image: Image.Image, other: TrackedImage) -> None:
    """Turn a plain image into a tracked one with another's view, where it is."""
    if not isinstance(image, TrackedImage):
        image.__class__ = type(other)
        image.__dict__.update({name: value for name, value in other.__dict__.items() if name in ("view", "trail")})


def _matrix(method: Any, data: Sequence[float] | None, result: Image.Image) -> Matrix:
    """Return the map from the output to the input of `Image.transform`; resizing a box is its method EXTENT."""
    if data is not None and method == Image.Transform.AFFINE:
        return (*(float(n) for n in data[:6]), 0.0, 0.0, 1.0)  # type: ignore[return-value]
    if data is not None and method == Image.Transform.PERSPECTIVE:
        return (*(float(n) for n in data[:8]), 1.0)  # type: ignore[return-value]
    if data is not None and method == Image.Transform.EXTENT:
        left, top, right, bottom = data
        return ((right - left) / result.width, 0, left, 0, (bottom - top) / result.height, top, 0, 0, 1)
    raise UntrackableTransformError(
        f"Image.transform: method {method} cannot be followed; use affine, perspective or extent"
    )


def _photometric(name: str) -> Callable[..., Any]:
    def method(self: TrackedImage, *args: Any, **kwargs: Any) -> TrackedImage:
        return self.derived(getattr(self.plain(), name)(*args, **kwargs), self.view)

    return method


def _reading(name: str) -> Any:
    known = getattr(Image.Image, name, None)
    if isinstance(known, property):
        return property(lambda self: getattr(self.plain(), name))

    def method(self: TrackedImage, *args: Any, **kwargs: Any) -> Any:
        args = tuple(arg.plain() if isinstance(arg, TrackedImage) else arg for arg in args)
        return getattr(self.plain(), name)(*args, **kwargs)

    return method


for _name in PHOTOMETRIC:
    setattr(TrackedImage, _name, _photometric(_name))
for _name in READING:
    if hasattr(Image.Image, _name):
        setattr(TrackedImage, _name, _reading(_name))
