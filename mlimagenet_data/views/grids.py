"""Exact, area-weighted resampling between a grid over a crop and a grid over its image.

The edges of a crop's canvas are (top, left, bottom, right) as fractions of the image's height and width. They may be
outside the image (padding). A flip reverses them: left exceeds right.
"""

from __future__ import annotations

import torch

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.view import View

__all__ = ["edges_of", "from_crop", "overlap", "to_crop"]

Edges = tuple[float, float, float, float]


def edges_of(view: View) -> Edges:
    """Return the edges (top, left, bottom, right) of a view's canvas in its image; erased parts are ignored.

    Raises:
        UntrackableTransformError: If the view was rotated or sheared, so its cells are not boxes in the image.
    """
    a, b, left, d, e, top, g, h, scale = view.to_image
    if not b == d == g == h == 0:
        raise UntrackableTransformError(
            "the view is rotated or sheared; it may only be cropped, scaled, flipped or padded here: remove rotations, "
            "shears and the AutoAugment family from the transform"
        )
    (height, width), (image_height, image_width) = view.canvas_size, view.image_size
    bottom, right = (e * height + top) / scale, (a * width + left) / scale
    return top / scale / image_height, left / scale / image_width, bottom / image_height, right / image_width


def overlap(edges: torch.Tensor, crop_size: tuple[int, int], maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the overlaps of crop grid cells with image grid cells, by rows and by columns.

    Args:
        edges: (B, 4).
        crop_size: (g, f), rows and columns of the crops' grid.
        maps: (B, ..., h, w); sets the image grid's size, the device and the dtype.

    Returns:
        (B, g, h) and (B, f, w): overlap lengths, in rows or columns of the image grid.

    Raises:
        ValueError: If the shapes are inconsistent.
    """
    if edges.shape != (len(maps), 4) or maps.ndim < 3:
        raise ValueError(
            f"edges must be ({len(maps)}, 4) and maps (B, ..., h, w), got {tuple(edges.shape)}, {tuple(maps.shape)}"
        )
    edges = edges.to(maps)
    return (
        _common(edges[:, 0], edges[:, 2], crop_size[0], maps.shape[-2]),
        _common(edges[:, 1], edges[:, 3], crop_size[1], maps.shape[-1]),
    )


def _common(start: torch.Tensor, stop: torch.Tensor, cells: int, size: int) -> torch.Tensor:
    """Return (B, cells, size): the overlap of part i of [start, stop) with cell j, in cells."""
    parts = torch.arange(cells + 1, device=start.device, dtype=start.dtype) / cells
    ends = (start[:, None] + (stop - start)[:, None] * parts) * size
    low, high = torch.minimum(ends[:, :-1], ends[:, 1:]), torch.maximum(ends[:, :-1], ends[:, 1:])
    cell = torch.arange(size, device=start.device, dtype=start.dtype)
    common = torch.minimum(high[:, :, None], cell + 1) - torch.maximum(low[:, :, None], cell)
    return common.clamp(min=0)


def to_crop(maps: torch.Tensor, edges: torch.Tensor, crop_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample maps over images onto the crops.

    Args:
        maps: (B, S, h, w) over whole images; NaN where unknown.
        edges: (B, 4).
        crop_size: (g, f).

    Returns:
        (B, S, g, f): means over the known part of each crop cell, 0 if none of it is known; and the known share of each
        cell, in [0, 1]. Area outside the image is unknown.
    """
    rows, columns = overlap(edges, crop_size, maps)
    known = ~maps.isnan()
    area = torch.einsum("bshw,bgh,bfw->bsgf", known.to(maps.dtype), rows, columns)
    total = torch.einsum("bshw,bgh,bfw->bsgf", maps.nan_to_num(0.0), rows, columns)
    size = (edges[:, 2:] - edges[:, :2]).abs().to(maps).prod(dim=1)
    cell = size * maps.shape[-2] * maps.shape[-1] / (crop_size[0] * crop_size[1])  # area of a crop cell
    share = area / cell.clamp(min=torch.finfo(maps.dtype).tiny)[:, None, None, None]
    return total / torch.where(area > 0, area, 1.0), share.clamp(max=1.0)


def from_crop(maps: torch.Tensor, edges: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample maps over crops onto their images.

    Args:
        maps: (B, S, g, f) over the crops.
        edges: (B, 4).
        size: (h, w) of the grid over the images.

    Returns:
        (B, S, h, w): means over the part of each image cell that the crop shows, 0 if it shows none; and (B, 1, h, w):
        the share of the cell that it shows, in [0, 1].
    """
    rows, columns = overlap(edges, (maps.shape[-2], maps.shape[-1]), maps.new_empty((len(maps), *size)))
    total = torch.einsum("bsgf,bgh,bfw->bshw", maps, rows, columns)
    share = (rows.sum(dim=1)[:, :, None] * columns.sum(dim=1)[:, None, :])[:, None]
    return total / torch.where(share > 0, share, 1.0), share.clamp(max=1.0)
