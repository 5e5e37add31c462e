"""The losses of train.py by name, and the memory that the consistency losses need."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import torch

from mlimagenet_data.losses.binary import asymmetric, binary_cross_entropy
from mlimagenet_data.losses.clicks import point_regression, points_in_crop
from mlimagenet_data.losses.consistency import spatial_consistency, update_memory
from mlimagenet_data.losses.heatmaps import Heatmaps, copy_file
from mlimagenet_data.losses.pooled import soft_cross_entropy
from mlimagenet_data.losses.single_positive import assume_negative, entropy_maximisation, expected_positive

__all__ = ["Objective"]

Batch = dict[str, torch.Tensor]


class Objective:
    """A loss between a network's output and a batch's targets.

    Args:
        args: The script's options.
        rows: Number of training images, which sizes the memory.
    """

    def __init__(self, args: argparse.Namespace, rows: int) -> None:
        self.args, self.rows, self.memory = args, rows, None
        self.base = {
            "bce": binary_cross_entropy,
            "byproducts": binary_cross_entropy,
            "asl": asymmetric,
            "softmax": soft_cross_entropy,
            "an-ls": lambda x, y: assume_negative(x, y, smoothing=0.05),
            "em": entropy_maximisation,
            "epr": lambda x, y: expected_positive(x, y, count=args.positives),
        }.get(args.loss, assume_negative)

    def __call__(self, output: Any, batch: Batch) -> torch.Tensor:
        """Return the loss; the consistency losses also update their memory."""
        logits = output[0] if isinstance(output, tuple) else output
        loss = self.base(logits, batch["target"])
        if self.args.loss == "byproducts":
            return loss + self.args.extra_weight * point_regression(
                output[1], *points_in_crop(batch["point"], batch["edges"])
            )
        if self.memory is None:
            return loss
        maps = (output[1] if self.args.loss == "spatial" else logits[:, :, None, None]).float().sigmoid()
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=maps.device).expand(len(maps), 4)
        return loss + self.args.extra_weight * self.agree(maps, batch, batch.get("edges", whole))

    def agree(self, maps: torch.Tensor, batch: Batch, edges: torch.Tensor) -> torch.Tensor:
        """Return the distance to the remembered maps of these images, then store the current ones."""
        classes, heat = (tensor.to(maps.device) for tensor in self.memory.read(batch["row"]))
        # a sum over classes, as in the other losses
        loss = classes.shape[1] * spatial_consistency(maps, classes, heat, edges)
        self.memory.write(batch["row"], *update_memory(maps, batch["target"], classes, heat, edges))
        return loss

    def open_memory(self, epoch: int, *, first: bool) -> None:
        """Open the memory as it was before an epoch; the `first` of several processes must call this first."""
        if self.args.loss not in ("consistency", "spatial"):
            return
        path = self.args.out / "heatmaps.npy"
        if first and epoch:
            path.parent.mkdir(parents=True, exist_ok=True)
            copy_file(self.args.resume.parent / f"heatmaps-{epoch - 1}.npy", path)
        elif first:
            path.unlink(missing_ok=True)
        self.memory = Heatmaps(path, self.rows, size=(8, 8) if self.args.loss == "spatial" else (1, 1))

    def save(self, folder: Path, epoch: int) -> None:
        """Copy the memory, for the checkpoint that is written next."""
        if self.memory is not None:
            self.memory.copy_to(folder / f"heatmaps-{epoch}.npy")

    def tidy(self, folder: Path, epoch: int) -> None:
        """Delete the memory copies of earlier checkpoints."""
        if self.memory is not None:
            for path in folder.glob("heatmaps-*.npy"):
                if re.fullmatch(r"heatmaps-\d+\.npy", path.name) and path.name != f"heatmaps-{epoch}.npy":
                    path.unlink()
