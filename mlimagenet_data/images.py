"""Loading of files as RGB images, shared by the pipeline and the loader. Nothing else opens an image file."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mlimagenet_data.errors import ImageError
from mlimagenet_data.files.memory import room_for
from mlimagenet_data.files.printing import printable
from mlimagenet_data.files.reading import NotRegularError, is_transient, open_regular
from mlimagenet_data.files.walk import is_mac_metadata

__all__ = ["IMAGE_EXTENSIONS", "fault_status", "image_size", "is_image_name", "load_image", "open_image"]

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's list

# The formats of these extensions, whatever a file is named; Pillow reads MPO, of which the first picture counts, as JPEG.
# Of Pillow's other formats, some start a program to read a file (EPS: Ghostscript).
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
_MOST_BYTES = 2 << 30  # per file; an uncompressed image at the limit of pixels has fewer
# Errors of Pillow's decoders on damaged files, found by fuzzing and in its issue tracker. Listed instead of catching
# `Exception`, so that our own bugs do not pass for damaged images. `Warning`: where warnings are errors.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
                  ZeroDivisionError, struct.error, Warning)  # fmt: skip
_TOO_LARGE = (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# keys of Image.info that may hold an orientation; TIFF has its own tags
_ORIENTED = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_STRIP = 1 << 20  # pixels converted at a time
_PIXEL_BYTES = 8  # that decoding takes: the image in its own mode and as RGB, or turned


def is_image_name(name: str) -> bool:
    """Return whether a file's name is an image's: by its extension, unless macOS wrote it beside another file."""
    return name.lower().endswith(IMAGE_EXTENSIONS) and not is_mac_metadata(name)


def load_image(path: str | os.PathLike[str] | BinaryIO, *, upright: bool = True) -> Image.Image:
    """Return a file's image as RGB.

    The formats are JPEG, MPO, PNG, PPM, BMP, TIFF and WebP, whatever the file's name. CMYK, grayscale, palette and
    16-bit images are supported. 16-bit gray is scaled to 8 bits (Pillow's own conversion clips it to white); alpha is
    dropped.

    Args:
        path: A path or an open binary file.
        upright: Apply the EXIF orientation.

    Raises:
        ImageError: With a status and a message that states the reason: `missing` (no file, or a broken link),
            `inaccessible` (permissions, or a fault of a disk, mount or server), `too_large` (more pixels than Pillow's
            decompression-bomb limit or the memory allow, or more than 2 GiB), or `unreadable` (not a regular file, not
            an image, damaged or truncated).
    """
    with open_image(path) as image, _room(image):
        image.load()
        return _to_rgb(_upright(image) if upright else image)


def image_size(path: str | os.PathLike[str], *, upright: bool = True) -> tuple[int, int]:
    """Return the (height, width) of `load_image`'s result from the file header; PNG and TIFF files are read whole.

    Damage after the header is not detected.

    Args:
        path: The file.
        upright: Apply the EXIF orientation.

    Raises:
        ImageError: As for `load_image`.
    """
    with open_image(path) as image, _room(image) if image.format in ("PNG", "TIFF") else contextlib.nullcontext():
        if not upright:
            return image.height, image.width
        if image.format == "TIFF":  # Pillow's release decides whether its size is that before or after rotation
            image.load()
        width, height = image.size
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


@contextlib.contextmanager
def open_image(
    path: str | os.PathLike[str] | BinaryIO, *, formats: tuple[str, ...] = _FORMATS
) -> Iterator[Image.Image]:
    """Open an image, not decoded yet, for the block; errors that reading raises in the block become ImageError.

    Args:
        path: A path or an open binary file.
        formats: Pillow's names of the legal formats, all among those of `load_image`.

    Raises:
        ImageError: As for `load_image`.
    """
    assert set(formats) <= set(_FORMATS)
    size = ""
    try:
        with _opened(path) as file, Image.open(file, formats=formats) as image:
            size = f" for {image.height} x {image.width} pixels"
            yield image
    except ImageError:
        raise
    except (*_TOO_LARGE, *_DECODE_ERRORS) as error:
        reason = f"not enough memory{size}" if isinstance(error, MemoryError) else _reason(error, path, formats)
        raise ImageError(f"{_name(path)}: {reason}", status=fault_status(error)) from error


def fault_status(error: Exception) -> str:
    """Return the row's status for an error of opening, reading or decoding a file that holds an image.

    The statuses are those of `load_image`. An error of the system is `missing` or `inaccessible`; a decoder's error,
    which has no error number, is `unreadable`.
    """
    if isinstance(error, ImageError):
        return error.status
    if isinstance(error, _TOO_LARGE):
        return "too_large"
    if isinstance(error, OSError) and error.errno in _GONE:
        return "missing"
    return "inaccessible" if isinstance(error, OSError) and is_transient(error) else "unreadable"


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(path, str | os.PathLike):
        yield path
        return
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST_BYTES:
            reason = f"{size} bytes; must have at most {_MOST_BYTES}"
            raise ImageError(f"{_name(path)}: {reason}", status="too_large")
        yield file


def _reason(error: Exception, path: str | os.PathLike[str] | BinaryIO, formats: tuple[str, ...]) -> str:
    if isinstance(error, NotRegularError):
        return str(error).rpartition(": ")[2]
    if _is_empty(path):
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of these formats: {', '.join(formats)}"
    if fault_status(error) == "missing":
        is_link = isinstance(path, str | os.PathLike) and os.path.islink(path)
        return "broken symbolic link" if is_link else "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def _room(image: Image.Image) -> contextlib.AbstractContextManager[None]:
    return room_for(_PIXEL_BYTES * image.width * image.height)


def _name(path: str | os.PathLike[str] | BinaryIO) -> str:
    return printable(os.fspath(path)) if isinstance(path, str | os.PathLike) else "image in memory"


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as its EXIF orientation says, without that entry; the same image if it is upright."""
    method = _TURNS.get(_orientation(image))
    if method is None:
        return image
    turned = image.transpose(method)
    for key in _ORIENTED & set(turned.info):  # or the next reader would turn it again
        del turned.info[key]
    return turned


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none, or if the EXIF data are damaged."""
    if _ORIENTED.isdisjoint(image.info) and image.format != "TIFF":
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODE_ERRORS:  # a fault of the EXIF data is none of the pixels
        return 1
    return found if found in _TURNS else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray: I;16, or I in older releases of Pillow
        image = _eight_bits(image)
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # avoids Pillow's warning about palettes with transparency
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 16-bit gray scaled to 8 bits; a strip at a time, as a whole image in 64 bits may not fit in memory."""
    out, rows = Image.new("L", image.size), max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        values = np.clip(np.asarray(strip).astype(np.int64), 0, 65535)
        out.paste(Image.fromarray(((values + 128) // 257).astype(np.uint8)), (0, top))
    return out


def _is_empty(path: str | os.PathLike[str] | BinaryIO) -> bool:
    try:
        return isinstance(path, str | os.PathLike) and os.stat(path).st_size == 0
    except OSError:
        return False
