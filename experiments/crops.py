"""Crops of scenes and their targets: the same crops for all methods of a comparison, and labels from the product's loader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mlimagenet_data import LabelPolicy, MultiLabelImageNet

__all__ = ["CROP", "TARGETS", "Crops", "draw_boxes", "targets_of", "views"]

CROP = 48  # pixels a side of what networks see
TARGETS = ("single", "located", "image", "crop", "ignore", "pooled")


@dataclass(frozen=True)
class Crops:
    """N crops: `pixels` (N, 3, CROP, CROP) uint8, and for each kind of target (N, K) float32."""

    pixels: Tensor
    targets: dict[str, Tensor]


def draw_boxes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return boxes as RandomResizedCrop draws them, (count, 4): top, left, height, width in pixels, whole numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        crop, blank = v2.RandomResizedCrop(CROP), torch.zeros(3, size, size)
        found = [crop.get_params(blank, list(crop.scale), list(crop.ratio)) for _ in range(count)]
    return torch.tensor(found, dtype=torch.float64)


def views(pixels: Tensor, rows: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """Return crops (N, 3, CROP, CROP) uint8 of images (M, 3, S, S) uint8.

    Args:
        pixels: The images.
        rows: (N,), of which image each crop is.
        boxes: (N, 4), top, left, height, width.
        mirrored: (N,) bool.
    """
    out = []
    for row, box, flip in zip(rows.tolist(), boxes.long().tolist(), mirrored.tolist(), strict=True):
        view = F.resized_crop(pixels[row], *box, [CROP, CROP], antialias=True)
        out.append(view.flip(-1) if flip else view)
    return torch.stack(out)


def targets_of(root: Path, annotations: Path, classes: list[int], rows: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """Return the targets of crops by the product's loader, (N, K) float32 each.

    `single`: the original label, whatever the crop shows. `located`: it, where its regions are in view. `image`: the whole
    image's labels. `crop`: those of what is in view. `ignore`: likewise, -1 where that is undecided. `pooled`: a distribution
    over what is in view.

    Args:
        root: The image folder.
        annotations: Of which annotations.
        classes: The K classes; labels of others are dropped.
        rows: (N,) numbers of the scenes.
        boxes: (N, 4), top, left, height, width in pixels.
    """
    whole = torch.tensor([[0.0, 0.0, 1e6, 1e6]], dtype=torch.float64).expand(len(boxes), 4)
    kinds = {
        "image": ("multi_hot", whole),
        "crop": ("multi_hot", boxes),
        "ignore": ("ignore", boxes),
        "pooled": ("pooled", boxes),
    }
    out = {}
    for name, (target, seen) in kinds.items():
        data = MultiLabelImageNet(root, annotations=annotations, target=target, policy=LabelPolicy())
        # annotations are sorted by class folder, scenes are numbered
        place = torch.tensor([int(Path(path).stem) for path, _ in data.samples]).argsort()[rows]
        out[name] = data.batch_labels_for(place.tolist(), seen)[:, classes]
    originals = torch.tensor([classes.index(label) for label in data.targets])[place]
    out["single"] = torch.nn.functional.one_hot(originals, len(classes)).float()
    out["located"] = out["single"] * out["crop"].clamp_min(0)
    sums = out["pooled"].sum(dim=1, keepdim=True)
    out["pooled"] = torch.where(sums > 0, out["pooled"] / sums.clamp_min(1e-12), torch.zeros(()))
    return out


def as_tensor(pixels: np.ndarray) -> Tensor:
    """Return (M, S, S, 3) uint8 images as (M, 3, S, S)."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
