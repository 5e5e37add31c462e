"""Memory for spatial consistency: a few classes and their heatmaps per training image, in one memory-mapped file.

A row takes S (2 h w + 2) bytes: 1,040 with the default of S = 8 classes on 8 x 8 cells, or 1.3 GB for ImageNet's
1,281,167 images. The file is sparse until rows are written. Heatmaps are float16; running-average steps smaller than
half a unit in the last place, at most 0.00025, are lost.

Only the training loop reads and writes the file, never DataLoader workers. Within an epoch each row belongs to one
sample, so processes on one machine can share the file without locks; a row that DistributedSampler duplicates as
padding keeps either update. Several machines would need to see each other's writes, which NFS does not guarantee.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch

from mlimagenet_data.errors import HeatmapError
from mlimagenet_data.files.atomic import write_atomic

__all__ = ["Heatmaps"]


class Heatmaps:
    """Reads and writes the remembered classes and heatmaps of images by row.

    Args:
        path: The file, in NumPy's format; created if missing.
        rows: Number of images.
        classes: S, the number of classes remembered per image.
        size: (h, w), cells over the image.

    Raises:
        HeatmapError: If the file exists with other content.
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
            found = np.lib.format.open_memmap(self.path, mode="r")  # r+ would extend a truncated file
        except (OSError, ValueError) as error:
            raise HeatmapError(f"{self.path}: {error}; delete it to start over") from error
        if found.dtype != dtype or found.shape != (rows,):
            raise HeatmapError(
                f"{self.path} holds an array of shape {found.shape} and type {found.dtype}, expected ({rows},) and "
                f"{dtype}; it belongs to another run: delete it, or use another folder"
            )
        self._rows = np.lib.format.open_memmap(self.path, mode="r+")

    def _make(self, dtype: np.dtype[np.void], rows: int) -> None:
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(rows,)).flush()
        try:
            os.link(temporary, self.path)  # among processes that start together, one creates the file
        except FileExistsError:
            pass
        finally:
            temporary.unlink()

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return classes (B, S) int64, -1 for none, and heatmaps (B, S, h, w) float32, NaN if never seen, on the CPU.

        Raises:
            IndexError: If a row does not exist.
        """
        found = self._rows[self._checked(rows)]
        classes = torch.from_numpy(found["class_after"].astype(np.int64) - 1)
        heat = torch.from_numpy(found["heat"].astype(np.float32))
        return classes, torch.where((classes >= 0)[:, :, None, None], heat, torch.nan)

    def write(self, rows: torch.Tensor, classes: torch.Tensor, heatmaps: torch.Tensor) -> None:
        """Store updated classes and heatmaps, in the format that `read` returns.

        Raises:
            IndexError: If a row does not exist.
            ValueError: If the shapes do not match the file.
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
            raise IndexError(f"{self.path} has {len(self)} rows, asked for rows {where.min()} to {where.max()}")
        return where

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Copy the file atomically, so that training can resume exactly from a checkpoint."""
        self._rows.flush()
        copy_file(self.path, Path(path))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically: a killed process leaves either the old or the new target."""
    write_atomic(target, lambda temporary: shutil.copyfile(source, temporary))
