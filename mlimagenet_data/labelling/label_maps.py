"""ReLabel's published label maps: another classifier's predictions in each cell of each ImageNet image.

Yun et al., "Re-labeling ImageNet: from Single to Multi-Labels, from Global to Localized Labels", arXiv 2101.05022. A
file `<wnid>/<stem>.pt` holds a tensor [2, k, h, w], published with k = 5 and h = w = 15: the logits and indices of the
k best classes in each cell. In the dense map, all other classes have a logit of 0. The build can use these maps in
place of a classifier's (`--label-maps`); `PooledLabelMap` makes the paper's own targets from them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import MLImageNetError
from mlimagenet_data.files.printing import printable
from mlimagenet_data.files.reading import is_transient, read_regular
from mlimagenet_data.labelling.tensor_file import read_tensor
from mlimagenet_data.views.grids import edges_of, overlap

if TYPE_CHECKING:
    from mlimagenet_data.labelling.sample import AnnotatedView

__all__ = ["LabelMapError", "PooledLabelMap", "densify", "read_label_map"]

_LARGEST = 4096  # cells per map; the published maps have 225
_MOST_BYTES = 4 << 20  # per file; the published files have about 10 kB, all 1000 classes in as many cells 1.8 MB
_MOST_LOGIT = 1e6  # so that means and softmax of logits stay finite


class LabelMapError(MLImageNetError, ValueError):
    """An unusable label map.

    Attributes:
        status: `missing`, `damaged`, or `inaccessible` if the system could not read the file this time.
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status


def read_label_map(folder: Path, image_id: str) -> Tensor:
    """Return an image's map: (2, k, h, w) float32, logits and classes.

    Raises:
        LabelMapError: If the file does not exist or cannot be opened, has more than 4 MiB, or is not a tensor of this
            form, if a logit is not finite or beyond a million, or if a class index is out of range.
    """
    path = folder / f"{image_id}.pt"
    try:
        found = read_tensor(read_regular(path, _MOST_BYTES))
        if reason := _fault(found):
            raise ValueError(reason)
        return found.float()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LabelMapError(f"{printable(str(path))}: no such file", status="missing") from error
    except (OSError, ValueError) as error:
        status = "inaccessible" if isinstance(error, OSError) and is_transient(error) else "damaged"
        reason = printable(str(error).removeprefix(f"{path}: ")[:200])
        raise LabelMapError(f"{printable(str(path))}: {reason}", status=status) from error


def _fault(found: Tensor) -> str:
    """Return the fault of a file's content; empty if it is valid."""
    shape = tuple(found.shape)
    if len(shape) != 4 or shape[0] != 2 or not 1 <= shape[1] <= NUM_CLASSES:
        return f"expected a dense tensor [2, k, h, w], got {shape}"
    if not 1 <= shape[2] * shape[3] <= _LARGEST:
        return f"the map has {shape[2]} x {shape[3]} cells; it must have between 1 and {_LARGEST}"
    logits, classes = found.float()
    if not (logits.abs() <= _MOST_LOGIT).all():  # also catches NaN
        return f"a logit is not a finite number of at most {_MOST_LOGIT:g}"
    if not ((classes >= 0) & (classes < NUM_CLASSES) & (classes == classes.round())).all():
        return f"a class index is not an integer between 0 and {NUM_CLASSES - 1}"
    return ""


def densify(label_map: Tensor) -> Tensor:
    """Return the dense form of a (2, k, h, w) map: (K, h, w) float32, 0 for classes outside a cell's k best."""
    logits, classes = label_map
    dense = torch.zeros((NUM_CLASSES, *logits.shape[1:]))
    return dense.scatter_(0, classes.long(), logits)


class PooledLabelMap:
    """Makes ReLabel's target of a view: the softmax of the label map's mean over the view, (1000,) float32.

        pooled = PooledLabelMap("label_maps")
        MultiLabelImageNet(root, transform, annotations=..., target="view", target_transform=pooled)

    The mean is exact by area; the paper samples with RoIAlign. Area outside the image is left out, and a view that
    shows none of the image has an all-zero target. Train with `mlimagenet_data.losses.pooled.soft_cross_entropy`.

    Args:
        folder: The folder of published files.
        missing: Target of images whose file is missing or damaged: `error` raises, `original` is the one-hot original
            label.

    Raises:
        LabelMapError: When called, if a file is missing or damaged and `missing` is `error` or there is no original
            label, or if the system cannot read a file.
        UntrackableTransformError: When called with a rotated or sheared view.
    """

    def __init__(self, folder: str | os.PathLike[str], *, missing: Literal["error", "original"] = "error") -> None:
        if missing not in ("error", "original"):
            raise ValueError(f"missing must be error or original, got {missing!r}")
        self.folder, self.missing = Path(folder), missing

    def __call__(self, seen: AnnotatedView) -> Tensor:
        """Return the target of a view."""
        target = torch.zeros(NUM_CLASSES)
        edges = torch.tensor([edges_of(seen.view)], dtype=torch.float64)
        try:
            logits, classes = read_label_map(self.folder, seen.record.image_id)
        except LabelMapError as error:
            if self.missing == "error" or error.status == "inaccessible" or seen.record.label is None:
                raise
            target[seen.record.label] = 1.0
            return target
        rows, columns = overlap(edges, (1, 1), logits[None].double())
        weights = (rows[0, 0][:, None] * columns[0, 0]).float()
        if weights.sum() <= 0:
            return target
        target.index_add_(0, classes.long().flatten(), (logits * weights / weights.sum()).flatten())
        return target.softmax(dim=0)
