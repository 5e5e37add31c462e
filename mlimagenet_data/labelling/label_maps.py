"""Reads ReLabel's published label maps: what another classifier saw at each place of each ImageNet image.

Yun et al., "Re-labeling ImageNet: from Single to Multi-Labels, from Global to Localized Labels", arXiv 2101.05022. A file
`<wnid>/<stem>.pt` holds a tensor [2, k, h, w], published with k = 5 and h = w = 15: the logits of the k best classes at each
place, and their indices. Made dense, all other classes get a logit of 0. The build takes them in place of a classifier's
(`--label-maps`); `PooledLabelMap` makes the paper's own targets of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import MLImageNetError
from mlimagenet_data.files import TORCH_LOAD_ERRORS
from mlimagenet_data.views.grids import edges_of, overlap

if TYPE_CHECKING:
    from mlimagenet_data.labelling.sample import AnnotatedView

__all__ = ["LabelMapError", "PooledLabelMap", "densify", "read_label_map"]

_LARGEST = 4096  # cells of a map; the published ones have 225


class LabelMapError(MLImageNetError, ValueError):
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


class PooledLabelMap:
    """Makes ReLabel's targets of what views show: the label map's mean over the view, and its softmax, (1000,) float32.

        MultiLabelImageNet(root, transform, annotations=..., target="view", target_transform=PooledLabelMap("label_maps"))

    The mean is exact by area, where the paper samples with RoIAlign; what lies outside of the image is left out, and a view that
    shows nothing of it has zeros. To be learnt by `mlimagenet_data.losses.pooled.soft_cross_entropy`.

    Args:
        folder: Of the published files.
        missing: Images without a file, or with a damaged one: `error`, or `original`, one-hot of the original label.

    Raises:
        LabelMapError: When called, by `missing`.
        UntrackableTransformError: When called with a view that was turned or sheared.
    """

    def __init__(self, folder: str | os.PathLike[str], *, missing: Literal["error", "original"] = "error") -> None:
        if missing not in ("error", "original"):
            raise ValueError(f"missing must be error or original, got {missing!r}")
        self.folder, self.missing = Path(folder), missing

    def __call__(self, seen: AnnotatedView) -> Tensor:
        """Return the target of what a view shows."""
        target = torch.zeros(NUM_CLASSES)
        edges = torch.tensor([edges_of(seen.view)], dtype=torch.float64)
        try:
            logits, classes = read_label_map(self.folder, seen.record.image_id)
        except LabelMapError:
            if self.missing == "error" or seen.record.label is None:
                raise
            target[seen.record.label] = 1.0
            return target
        rows, columns = overlap(edges, (1, 1), logits[None].double())
        weights = (rows[0, 0][:, None] * columns[0, 0]).float()
        if weights.sum() <= 0:
            return target
        target.index_add_(0, classes.long().flatten(), (logits * weights / weights.sum()).flatten())
        return target.softmax(dim=0)
