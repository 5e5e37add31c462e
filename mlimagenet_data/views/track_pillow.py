"""A PIL image subclass whose geometric methods keep its `View` up to date.

torchvision v1, timm and most hand-written transforms of PIL images reduce to Pillow's `crop`, `resize`, `transpose` and
`transform`. Pillow creates the results of its methods through `_new`, so they keep this class. Functions that create an
image from scratch (`Image.new`, `Image.blend` with such an image first, `Image.fromarray`) return a plain one, which is
detected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.view import Matrix, View

__all__ = ["TrackedImage"]


class TrackedImage(Image.Image):
    """A PIL image with the view of its original."""

    view: View

    @classmethod
    def of(cls, image: Image.Image, view: View) -> TrackedImage:
        """Return an image with the same pixels (shared, not copied)."""
        image.load()
        tracked = cls()
        tracked.__dict__.update(image.__dict__)
        tracked.view = view
        return tracked

    def plain(self) -> Image.Image:
        """Return a PIL image with the same pixels (shared, not copied)."""
        image = Image.Image()
        image.__dict__.update(self.__dict__)
        del image.__dict__["view"]
        return image

    def _new(self, im: Any) -> TrackedImage:
        return TrackedImage.of(super()._new(im), self.view)

    def _showing(self, image: Image.Image, view: View) -> TrackedImage:
        if view.canvas_size != (image.height, image.width):
            raise UntrackableTransformError(
                f"Pillow returned an image of {image.height} x {image.width} pixels; expected {view.canvas_size}"
            )
        return TrackedImage.of(image, view)

    def crop(self, box: Any = None) -> TrackedImage:  # noqa: D102
        result = super().crop(box)
        if box is None:
            return self._showing(result, self.view)
        left, top, right, bottom = (round(side) for side in box)
        return self._showing(result, self.view.crop(top, left, abs(bottom - top), abs(right - left)))

    def resize(self, size: Any, resample: Any = None, box: Any = None, reducing_gap: Any = None) -> TrackedImage:  # noqa: D102
        if self.mode in ("LA", "RGBA"):  # Pillow calls itself on a converted copy, which must be a plain image
            result = self.plain().resize(size, resample, box, reducing_gap)
        else:
            result = super().resize(size, resample, box, reducing_gap)
        left, top, right, bottom = box or (0, 0, self.width, self.height)
        scale_x, scale_y = (right - left) / result.width, (bottom - top) / result.height
        matrix = (scale_x, 0.0, float(left), 0.0, scale_y, float(top), 0.0, 0.0, 1.0)
        return self._showing(result, self.view.warp(matrix, (result.height, result.width)))

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
        result = super().transpose(method)
        return self._showing(result, self.view.warp(matrices[method], (result.height, result.width)))

    def transform(self, size: Any, method: Any, data: Any = None, *args: Any, **kwargs: Any) -> TrackedImage:  # noqa: D102
        result = self.plain().transform(size, method, data, *args, **kwargs)
        return self._showing(result, self.view.warp(_matrix(method, data, result), (result.height, result.width)))


def _matrix(method: Any, data: Sequence[float] | None, result: Image.Image) -> Matrix:
    """Return the map from the output to the input of `Image.transform`."""
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
