"""Cuts regions out of images for a second look: their boxes with context, at one size, other pixels greyed out if asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["crops"]


def crops(images: Tensor, masks: Tensor, chosen: Tensor, *, size: int, context: float, masked: bool) -> Tensor:
    """Return a crop of each chosen region.

    Args:
        images: (B, 3, H, W) float, normalised, so that 0 is grey.
        masks: (B, R, h, w) bool, stretched to the images by nearest neighbour.
        chosen: (B, R) bool; their masks are not empty.
        size: Pixels a side of the crops; the box's aspect ratio is not kept, as the image's is not.
        context: The box is made longer by this share on each side, where the image goes on.
        masked: Whether pixels outside the mask are 0.

    Returns:
        (n, 3, size, size), image by image.
    """
    from torchvision.ops import masks_to_boxes, roi_align  # takes seconds to import, and most builds never look twice

    of_image = chosen.nonzero()[:, 0]
    height, width = images.shape[2:]
    own = masks[chosen]
    scale = torch.tensor([width / own.shape[2], height / own.shape[1]] * 2, device=images.device)
    boxes = masks_to_boxes(own).float()
    boxes[:, 2:] += 1
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) * torch.tensor([-1, -1, 1, 1], device=boxes.device)
    boxes = (boxes + context * sides) * scale
    limits = torch.tensor([width, height] * 2, device=boxes.device)
    boxes = torch.minimum(boxes.clamp_min(0), limits)
    cut: Tensor = roi_align(images, torch.cat((of_image[:, None].float(), boxes), dim=1), size, aligned=True)
    if masked:
        full = F.interpolate(own[:, None].float(), size=(height, width), mode="nearest")
        number = torch.arange(len(own), device=boxes.device)[:, None].float()
        cut = cut * (roi_align(full, torch.cat((number, boxes), dim=1), size, aligned=True) >= 0.5)
    return cut
