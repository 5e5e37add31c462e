"""Losses for this loader's targets, and baselines; one module per kind.

Logits are (B, K) of any floating dtype; losses are computed in at least float32. Every loss is summed over classes and
averaged over the batch, like timm's multi-label losses (`BCEWithLogitsLoss` averages over both: 1 / K of that). A batch
without visible or decided classes has a loss of zero.

Names are imported on first use: importing this package is fast and does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlimagenet_data.losses.binary import asymmetric as asymmetric
    from mlimagenet_data.losses.binary import binary_cross_entropy as binary_cross_entropy
    from mlimagenet_data.losses.clicks import point_regression as point_regression
    from mlimagenet_data.losses.clicks import points_in_crop as points_in_crop
    from mlimagenet_data.losses.consistency import spatial_consistency as spatial_consistency
    from mlimagenet_data.losses.consistency import update_memory as update_memory
    from mlimagenet_data.losses.heatmaps import Heatmaps as Heatmaps
    from mlimagenet_data.losses.pooled import pool_label_map as pool_label_map
    from mlimagenet_data.losses.pooled import soft_cross_entropy as soft_cross_entropy
    from mlimagenet_data.losses.single_positive import assume_negative as assume_negative
    from mlimagenet_data.losses.single_positive import entropy_maximisation as entropy_maximisation
    from mlimagenet_data.losses.single_positive import expected_positive as expected_positive

_HOME = {
    "Heatmaps": "heatmaps",
    "assume_negative": "single_positive",
    "asymmetric": "binary",
    "binary_cross_entropy": "binary",
    "entropy_maximisation": "single_positive",
    "expected_positive": "single_positive",
    "point_regression": "clicks",
    "points_in_crop": "clicks",
    "pool_label_map": "pooled",
    "soft_cross_entropy": "pooled",
    "spatial_consistency": "consistency",
    "update_memory": "consistency",
}
__all__ = [
    "Heatmaps",
    "assume_negative",
    "asymmetric",
    "binary_cross_entropy",
    "entropy_maximisation",
    "expected_positive",
    "point_regression",
    "points_in_crop",
    "pool_label_map",
    "soft_cross_entropy",
    "spatial_consistency",
    "update_memory",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
