"""Reads ReLabel's published label maps: what another classifier saw at each place of each ImageNet image.

Yun et al., "Re-labeling ImageNet: from Single to Multi-Labels, from Global to Localized Labels", arXiv 2101.05022. A file
`<wnid>/<stem>.pt` holds a tensor [2, k, h, w], published with k = 5 and h = w = 15: the logits of the k best classes at each
place, and their indices. Made dense, all other classes get a logit of 0.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.files import TORCH_LOAD_ERRORS

__all__ = ["LabelMapError", "densify", "read_label_map"]

_LARGEST = 4096  # cells of a map; the published ones have 225


class LabelMapError(ValueError):
    """A label map that cannot be used.

    Attributes:
        status: `missing` or `damaged`.
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status


def read_label_map(folder: Path, image_id: str) -> Tensor:
    """Return an image's map: (2, k, h, w) float32, logits and classes.

    Raises:
        LabelMapError: If there is no such file, it is no tensor of that form, a logit is not finite, or a class is not one of
            ImageNet's.
    """
    path = folder / f"{image_id}.pt"
    if not path.is_file():
        raise LabelMapError(f"{path}: no such file", status="missing")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except TORCH_LOAD_ERRORS as error:
        raise LabelMapError(f"{path}: {type(error).__name__}: {str(error)[:200]}", status="damaged") from error
    if reason := _fault(found):
        raise LabelMapError(f"{path}: {reason}", status="damaged")
    out: Tensor = found.float()
    return out


def _fault(found: object) -> str:
    """Say what is wrong with a file's content; empty if nothing is."""
    if not isinstance(found, Tensor):
        return f"a tensor is expected, found a {type(found).__name__}"
    shape = tuple(found.shape)
    if found.is_sparse or len(shape) != 4 or shape[0] != 2 or not 1 <= shape[1] <= NUM_CLASSES:
        return f"a dense tensor [2, k, h, w] is expected, found {shape}"
    if not 1 <= shape[2] * shape[3] <= _LARGEST:
        return f"a map of {shape[2]} x {shape[3]} places"
    logits, classes = found.float()
    if not torch.isfinite(logits).all():
        return "a logit is not finite"
    if not ((classes >= 0) & (classes < NUM_CLASSES) & (classes == classes.round())).all():
        return f"a class index is not one of 0 to {NUM_CLASSES - 1}"
    return ""


def densify(label_map: Tensor) -> Tensor:
    """Return the dense map of (2, k, h, w): (K, h, w) float32, 0 for classes that are not among a place's k best."""
    logits, classes = label_map
    dense = torch.zeros((NUM_CLASSES, *logits.shape[1:]))
    return dense.scatter_(0, classes.long(), logits)
