"""Loading of files as RGB images, shared by the pipeline and the loader."""

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

# Errors of Pillow's decoders on damaged files, found by fuzzing and in its issue tracker. Listed instead of catching
# `Exception`, so that our own bugs do not pass for damaged images.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
                  ZeroDivisionError, struct.error)  # fmt: skip
# keys of Image.info that may hold an orientation; TIFF has its own tags
_ORIENTED = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def load_image(path: str | os.PathLike[str] | BinaryIO, *, upright: bool = True) -> Image.Image:
    """Return a file's image as RGB.

    PNG files named .JPEG and CMYK, grayscale, palette and 16-bit images are supported. 16-bit gray is scaled to 8 bits
    (Pillow's own conversion clips it to white); alpha is dropped.

    Args:
        path: A path or an open binary file.
        upright: Apply the EXIF orientation.

    Raises:
        ImageError: With status `missing` (no file, or a broken link), `too_large` (Pillow's decompression-bomb limit)
            or `unreadable` (not an image, damaged or truncated); the message states the reason.
    """
    with _named_errors(path), Image.open(path) as image:
        image.load()
        if upright and (not _ORIENTED.isdisjoint(image.info) or image.format == "TIFF"):
            ImageOps.exif_transpose(image, in_place=True)  # in place: an image without an orientation is not copied
        return _to_rgb(image)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return the (height, width) of `load_image`'s result from the file header; PNG and TIFF files are read whole.

    Damage after the header is not detected.

    Raises:
        ImageError: As for `load_image`.
    """
    with _named_errors(path), Image.open(path) as image:
        if image.format == "TIFF":  # Pillow's release decides whether its size is that before or after rotation
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        width, height = image.size
        return (width, height) if image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS else (height, width)


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike[str] | BinaryIO) -> Iterator[None]:
    """Turn Pillow's errors into an ImageError that states the reason."""
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
    if image.mode.startswith("I"):  # 16-bit gray: I;16, or I in older releases of Pillow
        pixels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # avoids Pillow's warning about palettes with transparency
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_empty(path: str | os.PathLike[str] | BinaryIO) -> bool:
    try:
        return isinstance(path, str | os.PathLike) and os.stat(path).st_size == 0
    except OSError:
        return False
