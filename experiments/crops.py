"""Crops of scenes and their targets: the same crops for all methods of a comparison, and labels from the product's loader."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mlimagenet_data import LabelPolicy, MultiLabelImageNet

__all__ = ["TARGETS", "Crops", "as_tensor", "draw_crops", "targets_of"]

_KINDS = {"crop": "multi_hot", "ignore": "ignore", "soft": "soft", "pooled": "pooled"}
TARGETS = ("label", "single", "located", "image", *_KINDS)


class Crops(NamedTuple):
    """Where N crops lie, whatever the size that they are shown at.

    Attributes:
        rows: (N,) int64, of which scene each is.
        boxes: (N, 4) float64, top, left, height, width in the scene's pixels.
        mirrored: (N,) bool.
    """

    rows: Tensor
    boxes: Tensor
    mirrored: Tensor

    def views(self, pixels: Tensor, size: int) -> Tensor:
        """Return the crops of (M, 3, S, S) uint8 scenes, (N, 3, size, size) uint8."""
        out = []
        for row, box, flip in zip(self.rows.tolist(), self.boxes.long().tolist(), self.mirrored.tolist(), strict=True):
            view = F.resized_crop(pixels[row], *box, [size, size], antialias=True)
            out.append(view.flip(-1) if flip else view)
        return torch.stack(out)

    def edges(self, side: int) -> Tensor:
        """Return (N, 4) float32, top, left, bottom, right as shares of scenes of `side` pixels; mirrored: right, then left."""
        top, left, height, width = (self.boxes / side).float().unbind(dim=1)
        first, last = torch.where(self.mirrored, left + width, left), torch.where(self.mirrored, left, left + width)
        return torch.stack([top, first, top + height, last], dim=1)


def draw_crops(scenes: int, each: int, side: int, generator: torch.Generator) -> Crops:
    """Draw crops of each scene, of `side` pixels, as RandomResizedCrop and RandomHorizontalFlip do."""
    count = scenes * each
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        crop, blank = v2.RandomResizedCrop(side), torch.zeros(3, side, side)
        found = [crop.get_params(blank, list(crop.scale), list(crop.ratio)) for _ in range(count)]
    mirrored = torch.rand(count, generator=generator) < 0.5
    return Crops(torch.arange(scenes).repeat_interleave(each), torch.tensor(found, dtype=torch.float64), mirrored)


def targets_of(root: Path, annotations: Path, classes: list[int], crops: Crops) -> dict[str, Tensor]:
    """Return the targets of crops by the product's loader, (N, K) float32 each, and `label`, (N,) int64.

    `label`, `single`: the original label, whatever the crop shows. `located`: it, where its regions are in view. `image`: the
    whole image's labels. `crop`: those of what is in view. `ignore`: likewise, -1 where that is undecided. `soft`: likewise, how
    surely. `pooled`: a distribution over what is in view.

    Args:
        root: The image folder.
        annotations: Of which annotations.
        classes: The K classes; labels of others are dropped.
        crops: Of the folder's scenes, which are numbered.
    """
    whole = torch.tensor([[0.0, 0.0, 1e6, 1e6]], dtype=torch.float64).expand(len(crops.rows), 4)
    kinds = {"image": "multi_hot", **_KINDS}
    opened = {
        name: MultiLabelImageNet(root, annotations=annotations, target=kind, policy=LabelPolicy())
        for name, kind in kinds.items()
    }
    any_of_them = opened["image"]
    # annotations are sorted by class folder, scenes are numbered
    place = torch.tensor([int(Path(path).stem) for path, _ in any_of_them.samples]).argsort()[crops.rows]
    out = {
        name: data.batch_labels_for(place.tolist(), whole if name == "image" else crops.boxes)[:, classes]
        for name, data in opened.items()
    }
    out["label"] = torch.tensor([classes.index(label) for label in any_of_them.targets])[place]
    out["single"] = torch.nn.functional.one_hot(out["label"], len(classes)).float()
    out["located"] = out["single"] * out["crop"]
    sums = out["pooled"].sum(dim=1, keepdim=True)
    out["pooled"] = torch.where(sums > 0, out["pooled"] / sums.clamp_min(1e-12), 0.0)
    return out


def as_tensor(pixels: np.ndarray) -> Tensor:
    """Return (M, S, S, 3) uint8 images as (M, 3, S, S)."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
