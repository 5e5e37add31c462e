"""Crops of scenes and their targets: the same crops for every method, with labels from the product's loader."""

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

# objects are known exactly here, so the original label is judged like every other class
_POLICY = LabelPolicy(original="as_others", min_score=0.25, absent_visibility=0.1, absent_coverage=0.05)
_KINDS = {"crop": "multi_hot", "ignore": "ignore", "soft": "soft", "pooled": "pooled"}
TARGETS = ("label", "single", "located", "image", *_KINDS)


class Crops(NamedTuple):
    """Positions of N crops, independent of their output size.

    Attributes:
        rows: (N,) int64, the scene of each crop.
        boxes: (N, 4) float64, top, left, height, width in the scene's pixels.
        mirrored: (N,) bool.
    """

    rows: Tensor
    boxes: Tensor
    mirrored: Tensor

    def views(self, pixels: Tensor, size: int) -> Tensor:
        """Return the crops of (M, 3, S, S) uint8 scenes as (N, 3, size, size) uint8."""
        out = []
        for row, box, flip in zip(self.rows.tolist(), self.boxes.long().tolist(), self.mirrored.tolist(), strict=True):
            view = F.resized_crop(pixels[row], *box, [size, size], antialias=True)
            out.append(view.flip(-1) if flip else view)
        return torch.stack(out)

    def edges(self, side: int) -> Tensor:
        """Return (N, 4) float32 shares of scenes of `side` pixels: top, left, bottom, right; right before left if mirrored."""
        top, left, height, width = (self.boxes / side).float().unbind(dim=1)
        first, last = torch.where(self.mirrored, left + width, left), torch.where(self.mirrored, left, left + width)
        return torch.stack([top, first, top + height, last], dim=1)


def draw_crops(scenes: int, each: int, side: int, generator: torch.Generator) -> Crops:
    """Draw `each` crops per scene of `side` pixels, as RandomResizedCrop and RandomHorizontalFlip do."""
    count = scenes * each
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        crop, blank = v2.RandomResizedCrop(side), torch.zeros(3, side, side)
        found = [crop.get_params(blank, list(crop.scale), list(crop.ratio)) for _ in range(count)]
    mirrored = torch.rand(count, generator=generator) < 0.5
    return Crops(torch.arange(scenes).repeat_interleave(each), torch.tensor(found, dtype=torch.float64), mirrored)


def targets_of(root: Path, annotations: Path, classes: list[int], crops: Crops) -> dict[str, Tensor]:
    """Return the crops' targets from the product's loader: (N, K) float32 each, and `label`, (N,) int64.

    `label`, `single`: the original label, whatever the crop shows. `located`: the original label if its regions are in
    view. `image`: the labels of the whole image. `crop`: the labels in view. `ignore`: as `crop`, with -1 where
    undecided. `soft`: as `crop`, with degrees of certainty. `pooled`: a distribution over the labels in view.

    Args:
        root: The image folder.
        annotations: The annotations to use.
        classes: The K classes; labels of other classes are dropped.
        crops: Crops of the folder's scenes, whose file names are numbers.
    """
    whole = torch.tensor([[0.0, 0.0, 1e6, 1e6]], dtype=torch.float64).expand(len(crops.rows), 4)
    kinds = {"image": "multi_hot", **_KINDS}
    opened = {
        name: MultiLabelImageNet(root, annotations=annotations, target=kind, policy=_POLICY)
        for name, kind in kinds.items()
    }
    any_of_them = opened["image"]
    # annotations are sorted by class folder, while crops refer to scenes by number
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
