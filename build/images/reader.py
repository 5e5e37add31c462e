"""Open the images of a listing: files, members of tar files, rows of Parquet files."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from build.images.listing import ImageInput
from mlimagenet_data.errors import ImageError
from mlimagenet_data.images import load_image

__all__ = ["ImageReader"]

_ROW_GROUPS = 4  # of Parquet files, kept in memory


class ImageReader:
    """Opens the images of a listing. Safe to share between threads.

    Args:
        root: The listing's root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[str, int], pa.ChunkedArray] = OrderedDict()
        self._starts: dict[str, list[int]] = {}

    def image(self, listed: ImageInput) -> Image.Image:
        """Return an RGB image.

        Raises:
            ImageError: As `mlimagenet_data.images.load_image`; the message names the file.
        """
        if listed.container is None:
            return load_image(self._root / listed.file_name)
        place = f"{self._root / listed.container}: {listed.file_name}"
        try:
            return load_image(io.BytesIO(self.content(listed)))
        except ImageError as error:
            raise ImageError(f"{place}: {str(error).partition(': ')[2]}", status=error.status) from error
        except (OSError, pa.ArrowException) as error:
            raise ImageError(f"{place}: {error}", status="unreadable") from error

    def content(self, listed: ImageInput) -> bytes:
        """Return an image file's bytes."""
        if listed.container is None:
            return (self._root / listed.file_name).read_bytes()
        path = self._root / listed.container
        if path.suffix == ".parquet":
            return self._row(path, listed.position)
        with open(path, "rb") as file:
            return os.pread(file.fileno(), listed.stamp[0], listed.position)

    def _row(self, path: Path, row: int) -> bytes:
        with self._lock:  # read each row group once for the neighbouring images in it
            parquet = None
            if str(path) not in self._starts:
                parquet = pq.ParquetFile(path)
                counts = [parquet.metadata.row_group(k).num_rows for k in range(parquet.num_row_groups)]
                self._starts[str(path)] = [sum(counts[:k]) for k in range(len(counts))]
            starts = self._starts[str(path)]
            group = max(k for k, start in enumerate(starts) if start <= row)
            if (str(path), group) not in self._groups:
                found = (parquet or pq.ParquetFile(path)).read_row_group(group, columns=["image.bytes"])
                self._groups[str(path), group] = found["image"]
                if len(self._groups) > _ROW_GROUPS:
                    self._groups.popitem(last=False)
            value = self._groups[str(path), group][row - starts[group]].as_py()
        if value is None or value["bytes"] is None:
            raise OSError("the row holds no image bytes; save the dataset with its images embedded")
        return bytes(value["bytes"])
