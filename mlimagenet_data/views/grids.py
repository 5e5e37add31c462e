"""Where a crop lies in its image: between a grid over the crop and a grid over the image, exactly by area.

A crop is given by the edges of its canvas, (top, left, bottom, right) as fractions of the image's height and width. They may lie
outside of the image (padding); after a flip they come in reverse, right before left.
"""

from __future__ import annotations

import torch

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.view import View

__all__ = ["edges_of", "from_crop", "overlap", "to_crop"]

Edges = tuple[float, float, float, float]


def edges_of(view: View) -> Edges:
    """Return the edges (top, left, bottom, right) of a view's canvas in its image; erased parts are not looked at.

    Raises:
        UntrackableTransformError: If the view was turned or sheared, so that its cells are no boxes of the image.
    """
    a, b, left, d, e, top, g, h, scale = view.to_image
    if not b == d == g == h == 0:
        raise UntrackableTransformError(
            "this loss needs views made of crops, scalings, flips and padding: leave rotations, shears and the "
            "AutoAugment family out of the transform"
        )
    (height, width), (image_height, image_width) = view.canvas_size, view.image_size
    bottom, right = (e * height + top) / scale, (a * width + left) / scale
    return top / scale / image_height, left / scale / image_width, bottom / image_height, right / image_width


def overlap(edges: torch.Tensor, crop_size: tuple[int, int], maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how the cells of grids over crops overlap those of grids over their images, by rows and by columns.

    Args:
        edges: (B, 4).
        crop_size: (g, f), rows and columns of the crops' grid.
        maps: (B, ..., h, w), for the size of the images' grid, device and type.

    Returns:
        (B, g, h) and (B, f, w): lengths of the common intervals; a row or column of the images' grid is 1 long.

    Raises:
        ValueError: If the shapes do not belong together.
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
    """Return (B, cells, size): the common length of part i of [start, stop) and of cell j, in cells."""
    parts = torch.arange(cells + 1, device=start.device, dtype=start.dtype) / cells
    ends = (start[:, None] + (stop - start)[:, None] * parts) * size
    low, high = torch.minimum(ends[:, :-1], ends[:, 1:]), torch.maximum(ends[:, :-1], ends[:, 1:])
    cell = torch.arange(size, device=start.device, dtype=start.dtype)
    common = torch.minimum(high[:, :, None], cell + 1) - torch.maximum(low[:, :, None], cell)
    return common.clamp(min=0)


def to_crop(maps: torch.Tensor, edges: torch.Tensor, crop_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps over images as the crops show them.

    Args:
        maps: (B, S, h, w) over whole images; NaN where nothing is known.
        edges: (B, 4).
        crop_size: (g, f).

    Returns:
        (B, S, g, f) means over what is known in each cell of the crop (0 where nothing is), and the share of each cell that is
        known, in [0, 1]: what lies outside of the image is not.
    """
    rows, columns = overlap(edges, crop_size, maps)
    known = ~maps.isnan()
    area = torch.einsum("bshw,bgh,bfw->bsgf", known.to(maps.dtype), rows, columns)
    total = torch.einsum("bshw,bgh,bfw->bsgf", maps.nan_to_num(0.0), rows, columns)
    size = (edges[:, 2:] - edges[:, :2]).abs().to(maps).prod(dim=1)
    cell = size * maps.shape[-2] * maps.shape[-1] / (crop_size[0] * crop_size[1])  # area of a crop's cell
    share = area / cell.clamp(min=torch.finfo(maps.dtype).tiny)[:, None, None, None]
    return total / torch.where(area > 0, area, 1.0), share.clamp(max=1.0)


def from_crop(maps: torch.Tensor, edges: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps over crops as maps over their images.

    Args:
        maps: (B, S, g, f) over the crops.
        edges: (B, 4).
        size: (h, w) of the grid over the images.

    Returns:
        (B, S, h, w) means over what the crop shows of each cell of the image (0 where it shows nothing), and (B, 1, h, w): the
        share of the cell that it shows, in [0, 1].
    """
    rows, columns = overlap(edges, (maps.shape[-2], maps.shape[-1]), maps.new_empty((len(maps), *size)))
    total = torch.einsum("bsgf,bgh,bfw->bshw", maps, rows, columns)
    share = (rows.sum(dim=1)[:, :, None] * columns.sum(dim=1)[:, None, :])[:, None]
    return total / torch.where(share > 0, share, 1.0), share.clamp(max=1.0)
