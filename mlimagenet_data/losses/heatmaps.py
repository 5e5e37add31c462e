"""The memory of spatial consistency: for each training image a few classes and their heatmaps, in one memory-mapped file.

A row takes S (2 h w + 2) bytes: with the default of S = 8 classes on 8 x 8 cells 1,040, and for ImageNet's 1,281,167 images
1.3 GB. The file is sparse until rows are written. Heatmaps are float16; a step of the running average that is smaller than
half a unit in its last place, 0.00025 at most, is lost.

The training loop reads and writes it, never a DataLoader's workers. In an epoch each row belongs to one sample, so the
processes of one machine can share the file without locks; a row that DistributedSampler hands out twice to fill up keeps
either update. Several machines would have to see each other's writes: NFS does not promise that.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch

from mlimagenet_data.errors import HeatmapError
from mlimagenet_data.files import write_atomic

__all__ = ["Heatmaps"]


class Heatmaps:
    """Reads and writes the remembered classes and heatmaps of images by row.

    Args:
        path: The file, in NumPy's format; made if it is not there.
        rows: Number of images.
        classes: S, the number of classes remembered of each image.
        size: (h, w), cells over the image.

    Raises:
        HeatmapError: If the file is there and holds something else.
        ValueError: If a number is not positive.
    """

    def __init__(
        self, path: str | os.PathLike[str], rows: int, *, classes: int = 8, size: tuple[int, int] = (8, 8)
    ) -> None:
        if min(rows, classes, *size) < 1:
            raise ValueError(f"rows, classes and size must be positive, got {rows}, {classes}, {size}")
        self.path, self.classes, self.size = Path(path), classes, size
        dtype = np.dtype([("class_after", "<u2", (classes,)), ("heat", "<f2", (classes, *size))])  # 0: no class
        if not self.path.exists():
            self._make(dtype, rows)
        try:
            found = np.lib.format.open_memmap(self.path, mode="r")  # r+ would fill up a file that was cut off
        except (OSError, ValueError) as error:
            raise HeatmapError(f"{self.path}: {error}; delete it to start anew") from error
        if found.dtype != dtype or found.shape != (rows,):
            raise HeatmapError(
                f"{self.path} holds {found.shape} rows of {found.dtype}, wanted ({rows},) of {dtype}: it belongs to "
                "another run; delete it, or write to another folder"
            )
        self._rows = np.lib.format.open_memmap(self.path, mode="r+")

    def _make(self, dtype: np.dtype[np.void], rows: int) -> None:
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(rows,)).flush()
        try:
            os.link(temporary, self.path)  # of processes that start together, one makes the file
        except FileExistsError:
            pass
        finally:
            temporary.unlink()

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return classes (B, S) int64, -1 for none, and heatmaps (B, S, h, w) float32, NaN for what was never seen, on the CPU.

        Raises:
            IndexError: If there is no such row.
        """
        found = self._rows[self._checked(rows)]
        classes = torch.from_numpy(found["class_after"].astype(np.int64) - 1)
        heat = torch.from_numpy(found["heat"].astype(np.float32))
        return classes, torch.where((classes >= 0)[:, :, None, None], heat, torch.nan)

    def write(self, rows: torch.Tensor, classes: torch.Tensor, heatmaps: torch.Tensor) -> None:
        """Store what `read` returned, changed.

        Raises:
            IndexError: If there is no such row.
            ValueError: If the shapes are not this file's.
        """
        where = self._checked(rows)
        if classes.shape != (len(where), self.classes) or heatmaps.shape != (*classes.shape, *self.size):
            raise ValueError(
                f"{self.path} holds {self.classes} classes on {self.size} cells, got {tuple(classes.shape)} and "
                f"{tuple(heatmaps.shape)}"
            )
        found = np.zeros(len(where), self._rows.dtype)
        found["class_after"] = classes.cpu().numpy() + 1
        found["heat"] = heatmaps.float().cpu().numpy()
        self._rows[where] = found

    def _checked(self, rows: torch.Tensor) -> np.ndarray:
        where: np.ndarray = rows.cpu().numpy()
        if len(where) and (where.min() < 0 or where.max() >= len(self)):
            raise IndexError(f"{self.path} has {len(self)} rows, asked for {where.min()} to {where.max()}")
        return where

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Write a copy under a temporary name, then rename it: what a checkpoint needs to be resumed exactly."""
        self._rows.flush()
        copy_file(self.path, Path(path))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file so that a killed process leaves the old one or the new one."""
    write_atomic(target, lambda temporary: shutil.copyfile(source, temporary))
