"""Reader of ImageNet's own boxes: XML files in the form of Pascal VOC, one for each image."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.files.reading import read_xml
from mlimagenet_data.files.walk import walk_files
from mlimagenet_data.names import class_of_path, image_id_of

__all__ = ["BoxedImage", "read_xml_boxes"]

_SOURCE = "https://image-net.org (ILSVRC2012_bbox_val_v3.tgz)"
_LARGEST = 4_000_000  # bytes per file
_MOST_OBJECTS = 10_000  # per file


class BoxedImage(NamedTuple):
    """One image with boxes of its original class.

    Attributes:
        name: The XML file's path, with the image's extension.
        image_id: The image's id.
        original: Its original class.
        boxes: (B, 4) float64, x0, y0, x1, y1 as shares of width and height.
    """

    name: str
    image_id: str
    original: int
    boxes: NDArray[np.float64]


def read_xml_boxes(folder: Path) -> list[BoxedImage]:
    """Read all XML files below a folder, in sorted order.

    The original class is that of the path if it names one (`n01440764/n01440764_10026.xml`), else the class of the
    objects, which ImageNet's files share. Objects of other classes are left out. Coordinates are cut off at the image's
    edges. Needs defusedxml.

    Raises:
        EvaluationError: If there is no XML file, or one is larger than 4 MB, is not XML, declares entities, names no
            class of ImageNet-1k, or lacks a size or coordinate; the message names the file.
    """
    names = sorted(name for name, _ in walk_files(folder) if name.endswith(".xml"))
    if not names:
        raise EvaluationError(f"{folder}: no XML file in it or its folders; get ImageNet's boxes from {_SOURCE}")
    return [_read(folder, name) for name in names]


def _read(folder: Path, name: str) -> BoxedImage:
    path = folder / name
    try:
        root = _parse(path)
        width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
        if width <= 0 or height <= 0:
            raise ValueError(f"size: {width:g} x {height:g}; both must be positive")
        objects = root.findall("object")
        if len(objects) > _MOST_OBJECTS:
            raise ValueError(f"{len(objects)} objects; must have at most {_MOST_OBJECTS}")
        original = _original(name, [_text(item, "name") for item in objects])
        wnid = imagenet_classes().wnids[original]
        boxes = [_box(item, width, height) for item in objects if _text(item, "name") == wnid]
    except ValueError as error:
        raise EvaluationError(f"{path}: {str(error)[:300]}; get ImageNet's boxes from {_SOURCE}") from error
    image = os.path.splitext(name)[0] + ".JPEG"
    return BoxedImage(image, image_id_of(Path(name).name, original), original, np.array(boxes).reshape(-1, 4))


def _parse(path: Path) -> Element:
    try:
        return read_xml(path, _LARGEST)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; boxes in XML need it: pip install 'mlimagenet-data[eval]'") from error
    except OSError as error:
        raise ValueError(f"not readable: {error}") from error


def _original(name: str, classes: list[str]) -> int:
    known = imagenet_classes().wnid_to_index
    found = class_of_path(name)
    if found is None:
        found = next((known[wnid] for wnid in classes if wnid in known), None)
    if found is None:
        raise ValueError(f"object/name: {', '.join(classes[:3]) or 'no object'}: no wnid of ImageNet-1k")
    return found


def _box(item: Element, width: float, height: float) -> list[float]:
    x0, x1 = (min(max(_number(item, f"bndbox/{name}") / width, 0.0), 1.0) for name in ("xmin", "xmax"))
    y0, y1 = (min(max(_number(item, f"bndbox/{name}") / height, 0.0), 1.0) for name in ("ymin", "ymax"))
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"bndbox: x {x0:g} to {x1:g}, y {y0:g} to {y1:g} of the image; must have a positive area")
    return [x0, y0, x1, y1]


def _text(item: Element, name: str) -> str:
    return (item.findtext(name) or "").strip()


def _number(item: Element, name: str) -> float:
    text = _text(item, name)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}: {text[:40]!r}: must be a number")
    return value
