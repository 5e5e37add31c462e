"""Regions of known class, and the file that training draws them from at random."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Regions", "open_regions", "save_regions"]


class Regions(NamedTuple):
    """Regions of known class.

    Attributes:
        features: (n, V, D) float16 or float32, V versions of each region's features; every step draws one of them. Or
            (n, V, S, D), the features of S patches of each; NaN for those that a region lacks.
        classes: (n,) int64.
        held_out: (n,) bool, excluded from training.
    """

    features: NDArray[np.floating]
    classes: NDArray[np.int64]
    held_out: NDArray[np.bool_]


def save_regions(parts: Iterable[Regions], count: int, folder: Path) -> None:
    """Write regions to a new folder, one part in memory at a time; features become float16.

    Args:
        parts: The regions, `count` in all.
        count: Their number, positive.
        folder: Created; its parent must exist.

    Raises:
        ValueError: If the parts hold another number of regions, or differ in V, S or D.
    """
    folder.mkdir()
    features, classes, held_out = None, np.zeros(count, np.int64), np.zeros(count, np.bool_)
    start = 0
    for part in parts:
        if not len(part.classes):
            continue
        if features is None:
            shape = (count, *part.features.shape[1:])
            features = np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype="<f2", shape=shape)
        stop = start + len(part.classes)
        if stop > count or part.features.shape[1:] != features.shape[1:]:
            raise ValueError(f"regions {start} to {stop} of {count} have features of {part.features.shape[1:]}")
        features[start:stop] = part.features
        classes[start:stop], held_out[start:stop] = part.classes, part.held_out
        start = stop
    if features is None or start != count:
        raise ValueError(f"{start} regions, expected {count}")
    features.flush()
    np.save(folder / "classes.npy", classes)
    np.save(folder / "held_out.npy", held_out)


def open_regions(folder: Path) -> Regions:
    """Return the regions that `save_regions` wrote; the features stay on the disk until they are read."""
    features = np.load(folder / "features.npy", mmap_mode="r")
    return Regions(features, np.load(folder / "classes.npy"), np.load(folder / "held_out.npy"))
