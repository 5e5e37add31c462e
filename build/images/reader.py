"""Open the images of a listing: files, members of tar files, rows of Parquet files."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from build.images.listing import ImageInput
from build.images.parquet_rows import BYTES, check_sizes, repeated_columns
from mlimagenet_data.errors import ImageError
from mlimagenet_data.files.printing import printable
from mlimagenet_data.files.reading import open_regular, read_regular
from mlimagenet_data.images import fault_status, load_image

__all__ = ["ImageReader", "content_digest"]

_MOST_BYTES = 1 << 30  # per image file
_MOST_GROUPS = 4  # of Parquet files, kept in memory
_MOST_GROUP_BYTES = 1 << 30  # of these in all, unless a single one has more


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
            ImageError: As `loaded`.
        """
        return self.loaded(listed)[0]

    def loaded(self, listed: ImageInput) -> tuple[Image.Image, str]:
        """Return an RGB image and the BLAKE2b hash of its file's bytes: 32 hexadecimal digits.

        Raises:
            ImageError: As `mlimagenet_data.images.load_image`, or if the file has more than 1 GiB; the message names
                the file.
        """
        content = self._bytes(listed, self._place(listed))
        with self._named_errors(listed):
            image = load_image(io.BytesIO(content))
        return image, content_digest(content)

    def digest(self, listed: ImageInput) -> str | None:
        """Return the hash of an image file's bytes, as `loaded`, without decoding it; None if they cannot be read."""
        try:
            return content_digest(self._bytes(listed, self._place(listed)))
        except ImageError:
            return None

    def is_accessible(self, listed: ImageInput) -> bool:
        """Return whether the file that holds an image can be opened."""
        try:
            with open_regular(self._place(listed)):
                return True
        except OSError:
            return False

    def content(self, listed: ImageInput) -> bytes:
        """Return an image file's bytes, to be copied.

        Raises:
            ImageError: If the file cannot be read, or a link leads from it out of the root.
        """
        real, root = os.path.realpath(self._place(listed)), os.path.realpath(self._root)
        if os.path.commonpath([real, root]) != root:
            raise ImageError(
                f"{printable(str(self._place(listed)))}: a link leads to {printable(real)}, outside the images' folder; copy "
                "the file into the folder, or name the folder that holds it",
                status="unreadable",
            )
        return self._bytes(listed, Path(real))

    def _place(self, listed: ImageInput) -> Path:
        """Return the file that holds an image."""
        return self._root / (listed.file_name if listed.container is None else listed.container)

    def _bytes(self, listed: ImageInput, path: Path) -> bytes:
        with self._named_errors(listed):
            if listed.fault is not None:
                raise ImageError(listed.fault, status="unreadable")
            if listed.container is None:
                content = _file(path)
            elif listed.container.lower().endswith(".parquet"):
                content = self._row(path, listed.position)
            else:
                content = _member(path, listed.stamp[0], listed.position)
            if not content:
                raise ImageError("the file is empty", status="unreadable")
        return content

    @contextmanager
    def _named_errors(self, listed: ImageInput) -> Iterator[None]:
        """Turn errors of reading and decoding into ImageError that names the image."""
        try:
            yield
        except (OSError, MemoryError, pa.ArrowException, IndexError) as error:
            place = self._place(listed)
            inside = f": {listed.file_name}" if listed.container is not None else ""
            raise ImageError(
                printable(f"{place}{inside}: {_reason(error, place)}"), status=fault_status(error)
            ) from error

    def _row(self, path: Path, row: int) -> bytes:
        with self._lock:  # read each row group once for the neighbouring images in it
            starts, opened = self._starts.get(str(path)), None
            if starts is None:
                opened = _open_parquet(path)
                counts = [opened.metadata.row_group(k).num_rows for k in range(opened.num_row_groups)]
                starts = self._starts[str(path)] = [sum(counts[:k]) for k in range(len(counts))]
            group = bisect_right(starts, row) - 1
            if (str(path), group) not in self._groups:
                self._groups[str(path), group] = _read_group(opened or _open_parquet(path), group)
                self._forget()
            value = self._groups[str(path), group][row - starts[group]].as_py()
        if value is None or value["bytes"] is None:
            raise ImageError(
                "the row holds no image bytes; save the dataset with its images embedded", status="unreadable"
            )
        return bytes(value["bytes"])

    def _forget(self) -> None:
        """Drop the oldest row groups that do not fit."""
        while len(self._groups) > 1 and (
            len(self._groups) > _MOST_GROUPS or sum(group.nbytes for group in self._groups.values()) > _MOST_GROUP_BYTES
        ):
            self._groups.popitem(last=False)


def content_digest(content: bytes) -> str:
    """Return the BLAKE2b hash of an image file's bytes: 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _file(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES)
    except ValueError as error:
        raise ImageError(str(error).removeprefix(f"{path}: "), status="too_large") from error


def _member(path: Path, size: int, position: int) -> bytes:
    if size > _MOST_BYTES:
        raise ImageError(f"{size} bytes; must have at most {_MOST_BYTES}", status="too_large")
    with open_regular(path) as file:
        content = os.pread(file.fileno(), size, position)
    if len(content) != size:
        raise ImageError(f"the tar file ends after {len(content)} of its {size} bytes", status="unreadable")
    return content


def _open_parquet(path: Path) -> pq.ParquetFile:
    with open_regular(path):  # Arrow would wait for a FIFO
        metadata = pq.read_metadata(path)
    return pq.ParquetFile(path, metadata=metadata, read_dictionary=repeated_columns(metadata, BYTES))


def _read_group(opened: pq.ParquetFile, group: int) -> pa.ChunkedArray:
    with opened:
        try:
            check_sizes(opened.metadata.row_group(group), BYTES, _MOST_GROUP_BYTES)
        except ValueError as error:
            raise ImageError(str(error), status="too_large") from error
        images, rows = opened.read_row_group(group, columns=[BYTES])["image"], opened.metadata.row_group(group).num_rows
        if len(images) != rows:  # Arrow skips a page of a kind that it does not know
            raise ImageError(
                f"a damaged page: {len(images)} of {rows} rows of its group can be read", status="unreadable"
            )
        return images


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, ImageError):
        return str(error).removeprefix("image in memory: ")
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, IndexError):
        return "the file has fewer rows than when it was listed"
    if fault_status(error) == "missing":
        return "broken symbolic link" if path.is_symlink() else "no such file"
    return (isinstance(error, OSError) and error.strerror) or str(error).removeprefix(f"{path}: ")
