"""From a file to an RGB image, the same way in the pipeline and in the loader."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mlimagenet_data.errors import ImageError

__all__ = ["IMAGE_EXTENSIONS", "image_size", "load_image"]

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's list

# What Pillow's decoders raise on damaged files, found by fuzzing and in its issue tracker. Listed rather than
# `Exception`, so that our own mistakes do not pass for damaged images.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
                  ZeroDivisionError, struct.error)  # fmt: skip
# where Pillow finds an orientation, but for TIFF's own tags
_ORIENTED = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def load_image(path: str | os.PathLike[str] | BinaryIO, *, upright: bool = True) -> Image.Image:
    """Return the RGB image in a file (or in an open binary one), turned as its EXIF orientation says, unless not `upright`.

    PNG files named .JPEG, CMYK, grayscale, palette and 16-bit images work. 16-bit gray is scaled to 8 bits (Pillow's own
    conversion clips it to white); alpha is dropped.

    Raises:
        ImageError: With status `missing` (no file, or a broken link), `too_large` (Pillow's decompression-bomb limit) or
            `unreadable` (not an image, damaged or cut off); the message says why.
    """
    with _named_errors(path), Image.open(path) as image:
        image.load()
        if upright and (not _ORIENTED.isdisjoint(image.info) or image.format == "TIFF"):
            ImageOps.exif_transpose(image, in_place=True)  # in place: without an orientation nothing is copied
        return _to_rgb(image)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return the (height, width) of what `load_image` gives, from the file's head; PNG and TIFF files are read whole.

    Damage further on in the file is not found.

    Raises:
        ImageError: As `load_image`.
    """
    with _named_errors(path), Image.open(path) as image:
        if image.format == "TIFF":  # whether its size is that of before or after the turn depends on Pillow's release
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        width, height = image.size
        return (width, height) if image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS else (height, width)


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike[str] | BinaryIO) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError that says why."""
    try:
        yield
    except FileNotFoundError as error:
        reason = (
            "broken symbolic link" if isinstance(path, str | os.PathLike) and os.path.islink(path) else "no such file"
        )
        raise ImageError(f"{_name(path)}: {reason}", status="missing") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{_name(path)}: {error}", status="too_large") from error
    except _DECODE_ERRORS as error:
        reason = "the file is empty" if _is_empty(path) else f"{type(error).__name__}: {error}"
        raise ImageError(f"{_name(path)}: {reason}", status="unreadable") from error


def _name(path: str | os.PathLike[str] | BinaryIO) -> str:
    return os.fspath(path) if isinstance(path, str | os.PathLike) else "image in memory"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray, read as I;16 or, by older releases of Pillow, as I
        pixels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # a palette with transparent entries converts with a warning otherwise
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_empty(path: str | os.PathLike[str] | BinaryIO) -> bool:
    try:
        return isinstance(path, str | os.PathLike) and os.stat(path).st_size == 0
    except OSError:
        return False
