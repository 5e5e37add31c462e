"""The visible part of the original in a transformed image, updated operation by operation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.views.boxes import Box, cell_overlap
from mlimagenet_data.views.polygons import Polygon, area_of, cell_cover, clip, contains, half, subtract

__all__ = ["IDENTITY", "Matrix", "View", "view_of_box"]

# Row-major 3 x 3, acting on (x, y, 1). Edge coordinates: a canvas spans 0 to width and 0 to height.
Matrix = tuple[float, float, float, float, float, float, float, float, float]
_NEAR = 1e-6
IDENTITY: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class View(NamedTuple):
    """A canvas, and the parts of the original that are visible on it.

    After crops, scalings, flips, paddings, erasures and quarter turns, all visible parts are boxes. Rotations, other
    affine maps and projective maps produce convex polygons. Areas are exact in all cases. After a projective map, a
    region's share of the view is measured in the original, not on the canvas.

    Attributes:
        image_size: (height, width) of the original in pixels.
        canvas_size: (height, width) of the current image in pixels.
        to_image: Maps points of the canvas to points of the original.
        pieces: The visible parts of the original, disjoint, in its pixels.
    """

    image_size: tuple[int, int]
    canvas_size: tuple[int, int]
    to_image: Matrix
    pieces: tuple[Box | Polygon, ...]

    @classmethod
    def of(cls, height: int, width: int) -> View:
        """Return the view of an untouched image."""
        return cls((height, width), (height, width), IDENTITY, (Box(0.0, 0.0, float(height), float(width)),))

    @property
    def area(self) -> float:
        """Return the area of the whole canvas, padding included, in the original, as a share of the original's area.

        After a projective map, equal areas of the canvas are not equal in the original, where the padding's area may be
        infinite. Then it is the visible area, divided by the share of the canvas that shows the original.
        """
        height, width = self.canvas_size
        a, b, _, d, e, _, g, h, i = self.to_image
        if g == h == 0:
            return abs(a * e - b * d) / (i * i) * height * width / (self.image_size[0] * self.image_size[1])
        back = _inverse(self.to_image)
        shown = sum(area_of(tuple(_apply(back, x, y) for x, y in _polygon(piece))) for piece in self.pieces)
        return self.visible_area * height * width / shown if shown > 0.0 else math.inf

    @property
    def visible_area(self) -> float:
        """Return the area of the visible parts as a share of the original's area."""
        return sum(_area(piece) for piece in self.pieces) / (self.image_size[0] * self.image_size[1])

    @property
    def box(self) -> Box | None:
        """Return the visible part as fractions of height and width if it is one box or empty, else None."""
        if not self.pieces:
            return Box(0.0, 0.0, 0.0, 0.0)
        if len(self.pieces) > 1 or not isinstance(self.pieces[0], Box):
            return None
        (height, width), box = self.image_size, self.pieces[0]
        return Box(box.top / height, box.left / width, box.bottom / height, box.right / width)

    def cells(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the visible share of each cell of a (gh, gw) grid over the original, in [0, 1]."""
        scale_y, scale_x = size[0] / self.image_size[0], size[1] / self.image_size[1]
        cover = np.zeros(size)
        polygons = []
        for piece in self.pieces:
            if isinstance(piece, Box):
                rows = cell_overlap(piece.top * scale_y, piece.bottom * scale_y, size[0])
                cover += rows[:, None] * cell_overlap(piece.left * scale_x, piece.right * scale_x, size[1])
            else:
                polygons.append(tuple((x * scale_x, y * scale_y) for x, y in piece))
        return cover + cell_cover(polygons, size) if polygons else cover

    def sample(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Sample (R, gh, gw) masks at the canvas pixels by nearest neighbour: (R, height, width).

        A pixel takes the value at its centre; padding and erased pixels are False.
        """
        (height, width), (image_h, image_w) = self.canvas_size, self.image_size
        ys, xs = np.mgrid[0:height, 0:width] + 0.5
        m = self.to_image
        depth = m[6] * xs + m[7] * ys + m[8]
        x, y = (m[0] * xs + m[1] * ys + m[2]) / depth, (m[3] * xs + m[4] * ys + m[5]) / depth
        visible = np.zeros((height, width), np.bool_)
        for piece in self.pieces:
            visible |= contains(_polygon(piece), x, y)
        rows = np.clip((y * (masks.shape[1] / image_h)).astype(np.intp), 0, masks.shape[1] - 1)
        columns = np.clip((x * (masks.shape[2] / image_w)).astype(np.intp), 0, masks.shape[2] - 1)
        return np.asarray(masks[:, rows, columns] & visible)

    def warp(self, from_new: Matrix, canvas_size: tuple[int, int]) -> View:
        """Return the view after a map of the canvas.

        Args:
            from_new: Maps points of the new canvas to points of the current one.
            canvas_size: Size of the new canvas. Everything outside it is lost for good.
        """
        new = View(self.image_size, canvas_size, _multiply(self.to_image, from_new), self.pieces)
        return new.keep(0.0, 0.0, float(canvas_size[0]), float(canvas_size[1]))

    def crop(self, top: float, left: float, height: int, width: int) -> View:
        """Return the view of a box of the canvas; the part outside the canvas is padding."""
        return self.warp((1.0, 0.0, float(left), 0.0, 1.0, float(top), 0.0, 0.0, 1.0), (height, width))

    def pad(self, left: int, top: int, right: int, bottom: int) -> View:
        """Return the view with borders; negative ones crop. Mirrored or repeated border content counts as invisible."""
        height, width = self.canvas_size
        return self.crop(-top, -left, height + top + bottom, width + left + right)

    def resize(self, height: int, width: int) -> View:
        """Return the view scaled to a new size."""
        scale_y, scale_x = self.canvas_size[0] / height, self.canvas_size[1] / width
        return self._replace(
            canvas_size=(height, width),
            to_image=_multiply(self.to_image, (scale_x, 0, 0, 0, scale_y, 0, 0, 0, 1)),
        )

    def flip_vertical(self) -> View:
        """Return the view with top and bottom swapped."""
        return self._replace(to_image=_multiply(self.to_image, (1, 0, 0, 0, -1, float(self.canvas_size[0]), 0, 0, 1)))

    def flip_horizontal(self) -> View:
        """Return the view with left and right swapped."""
        return self._replace(to_image=_multiply(self.to_image, (-1, 0, float(self.canvas_size[1]), 0, 1, 0, 0, 0, 1)))

    def erase(self, top: float, left: float, height: float, width: float) -> View:
        """Return the view after the pixels in a box of the canvas are overwritten."""
        pieces = self.pieces
        for hole in self._in_image(top, left, top + height, left + width):
            pieces = tuple(part for piece in pieces for part in _subtract(piece, hole))
        return self._replace(pieces=pieces)

    def keep(self, top: float, left: float, height: float, width: float) -> View:
        """Return the view with only a box of the canvas visible; the canvas keeps its size."""
        windows = self._in_image(top, left, top + height, left + width)
        parts = (_clip(piece, window) for window in windows for piece in self.pieces)
        return self._replace(pieces=tuple(part for part in parts if _area(part) > 0.0))

    def _in_image(self, top: float, left: float, bottom: float, right: float) -> list[Box | Polygon]:
        """Return a box of the canvas, mapped to the original: one part, or two if a horizon crosses the box.

        Beyond the horizon of a projective map, the canvas shows points behind the viewer, as torchvision and Pillow do.
        """
        a, b, c, d, e, f, g, h, i = self.to_image
        if b == d == g == h == 0:  # crops, scalings, flips: nearly always
            x0, x1, y0, y1 = (a * left + c) / i, (a * right + c) / i, (e * top + f) / i, (e * bottom + f) / i
            return [Box(min(y0, y1), min(x0, x1), max(y0, y1), max(x0, x1))]
        corners: Polygon = ((left, top), (right, top), (right, bottom), (left, bottom))
        if a == e == g == h == 0:  # a quarter turn: a box stays a box
            points = [_apply(self.to_image, x, y) for x, y in corners]
            xs, ys = [x for x, _ in points], [y for _, y in points]
            return [Box(min(ys), min(xs), max(ys), max(xs))]
        depths = [g * x + h * y + i for x, y in corners]
        near = _NEAR * max(abs(depth) for depth in depths)  # points nearer to the horizon show what is far away
        if min(depths) >= near or max(depths) <= -near:
            return [tuple(_apply(self.to_image, x, y) for x, y in corners)]
        sides = [half(corners, (sign * g, sign * h, sign * i - near)) for sign in (1.0, -1.0)]
        return [tuple(_apply(self.to_image, x, y) for x, y in side) for side in sides if side]


def view_of_box(image_size: tuple[int, int], top: float, left: float, height: float, width: float) -> View:
    """Return the view of a box of an image, in pixels; the box may extend outside the image."""
    matrix = (1.0, 0.0, float(left), 0.0, 1.0, float(top), 0.0, 0.0, 1.0)
    y0, y1 = max(0.0, float(top)), min(float(image_size[0]), float(top) + float(height))
    x0, x1 = max(0.0, float(left)), min(float(image_size[1]), float(left) + float(width))
    pieces = (Box(y0, x0, y1, x1),) if y1 > y0 and x1 > x0 else ()
    return View(image_size, (height, width), matrix, pieces)  # type: ignore[arg-type]


def _multiply(p: Matrix, q: Matrix) -> Matrix:
    a, b, c, d, e, f, g, h, i = p
    j, k, m, n, o, r, s, t, u = q
    return (
        a * j + b * n + c * s, a * k + b * o + c * t, a * m + b * r + c * u,
        d * j + e * n + f * s, d * k + e * o + f * t, d * m + e * r + f * u,
        g * j + h * n + i * s, g * k + h * o + i * t, g * m + h * r + i * u,
    )  # fmt: skip


def _inverse(m: Matrix) -> Matrix:
    inverse = np.linalg.inv(np.array(m).reshape(3, 3)).ravel()
    return tuple(float(value) for value in inverse)  # type: ignore[return-value]


def _apply(m: Matrix, x: float, y: float) -> tuple[float, float]:
    depth = m[6] * x + m[7] * y + m[8]
    return (m[0] * x + m[1] * y + m[2]) / depth, (m[3] * x + m[4] * y + m[5]) / depth


def _polygon(piece: Box | Polygon) -> Polygon:
    if isinstance(piece, Box):
        top, left, bottom, right = piece
        return ((left, top), (right, top), (right, bottom), (left, bottom))
    return piece


def _area(piece: Box | Polygon) -> float:
    return piece.area if isinstance(piece, Box) else area_of(piece)


def _clip(piece: Box | Polygon, window: Box | Polygon) -> Box | Polygon:
    if isinstance(piece, Box) and isinstance(window, Box):
        return piece.intersect(window)
    return clip(_polygon(piece), _polygon(window))


def _subtract(piece: Box | Polygon, hole: Box | Polygon) -> list[Box | Polygon]:
    if not (isinstance(piece, Box) and isinstance(hole, Box)):
        return list(subtract(_polygon(piece), _polygon(hole)))
    inner = piece.intersect(hole)
    if inner.area == 0.0:
        return [piece]
    parts = (
        Box(piece.top, piece.left, inner.top, piece.right),
        Box(inner.bottom, piece.left, piece.bottom, piece.right),
        Box(inner.top, piece.left, inner.bottom, inner.left),
        Box(inner.top, inner.right, inner.bottom, piece.right),
    )
    return [part for part in parts if part.area > 0.0]
