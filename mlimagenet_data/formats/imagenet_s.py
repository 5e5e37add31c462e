"""Reads ImageNet-S's semantic masks (Gao et al., arXiv 2106.03149): PNG files in class folders, a class in each pixel.

A pixel's class is R + 256 G: 0 is anything else, 1000 is ignored, and 1 to 919 (300, 50) are the subset's WordNet ids, sorted.
The list of these is `data/categories/ImageNetS_categories_im919.txt` in github.com/LUSSeg/ImageNet-S. Five classes of ImageNet-1k
are merged into others there (laptop into notebook, and the like), so that a mask may name another class than its image's label.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlimagenet_data.annotations.masks import MAX_CELLS, encode_mask
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.files import walk_files
from mlimagenet_data.formats.faults import Faults, shortened
from mlimagenet_data.formats.regions import mask_columns
from mlimagenet_data.images import load_image
from mlimagenet_data.names import class_of_path, image_id_of, join_key

__all__ = ["read_class_list", "read_imagenet_s", "read_mask"]

_IGNORED = 1000
_MOST_BYTES = 1 << 20


def read_class_list(file: Path) -> list[int]:
    """Return the classes of the ids 1, 2, ... of a list of WordNet ids, one a line, in any order.

    Raises:
        AnnotationError: If a line is no WordNet id of ImageNet-1k, or stands there twice.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise AnnotationError(f"{file}: more than {_MOST_BYTES} bytes, so it is no list of classes")
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{file}: not UTF-8: {error}") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        wnid = line.strip()
        if wnid in found or (wnid and wnid not in imagenet_classes().wnid_to_index):
            raise AnnotationError(
                f"{file}: line {number}: {wnid[:80]!r} is no WordNet id of ImageNet-1k, or an earlier line's"
            )
        if wnid:
            found[wnid] = imagenet_classes().wnid_to_index[wnid]
    if not 0 < len(found) < _IGNORED:
        raise AnnotationError(f"{file}: {len(found)} classes; ImageNet-S has 50, 300 or 919")
    return [found[wnid] for wnid in sorted(found)]


def read_imagenet_s(folder: Path, classes: list[int], faults: Faults) -> Iterator[dict[str, Any]]:
    """Yield a row for each mask file `<wnid>/<stem>.png`, sorted; its image is `<wnid>/<stem>.JPEG`.

    A class that is seen in the mask is a label of the image and a region, with score 1, on the grid of the mask's pixels, the
    largest one first. Ignored pixels belong to no region.

    Args:
        folder: E.g. `train-semi-segmentation`.
        classes: The class of each id, from `read_class_list`.
        faults: Told of files whose path names no class, that are an earlier file's photograph or no masks, or that have ids
            without a class.

    Raises:
        AnnotationError: If there is no PNG file, and by `faults`; the message names file and value.
    """
    names = sorted(name for name, _ in walk_files(folder) if name.lower().endswith(".png"))
    if not names:
        raise AnnotationError(f"{folder}: no PNG file lies in it or below")
    seen: dict[str, str] = {}
    for name in names:
        label, image_id = class_of_path(name), image_id_of(name)
        if label is None:
            faults.add(str(folder / name), "folder", name.rpartition("/")[0], "is no WordNet id of ImageNet-1k")
            continue
        if (first := seen.setdefault(join_key(image_id), name)) != name:
            rule = f"and {shortened(first)} would both be image {image_id}; rename or remove one"
            faults.add(str(folder / name), "file", name, rule)
            continue
        try:
            mask = read_mask(folder / name, len(classes))
        except (AnnotationError, ImageError) as error:
            faults.add(str(folder / name), "mask", name, f"cannot be used: {error}")
            continue
        regions = _regions(mask, classes)
        labels = [region["label"] for region in regions]
        yield {
            "image_id": image_id, "file_name": f"{name[:-4]}.JPEG", "label": label,
            "height": mask.shape[0], "width": mask.shape[1], "labels": labels, "scores": [1.0] * len(labels),
            "regions": regions, "status": "ok" if regions else "no_regions",
        }  # fmt: skip


def read_mask(file: Path, classes: int) -> NDArray[np.int64]:
    """Return the ids of a mask's pixels: (H, W), 0 where there is none of the classes.

    Raises:
        ImageError: If it cannot be read as an image.
        AnnotationError: If it is too large, or has an id that is neither 0, one of the classes' nor 1000.
    """
    try:
        with Image.open(file, formats=("PNG",)) as image:
            width, height = image.size
    except FileNotFoundError as error:
        raise ImageError(f"{file}: no such file", status="missing") from error
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ImageError(f"{file}: {error}", status="unreadable") from error
    if height * width > MAX_CELLS:
        raise AnnotationError(f"{height} x {width} pixels, {MAX_CELLS} at most are read")
    pixels = np.asarray(load_image(file)).astype(np.int64)
    ids = pixels[..., 0] + 256 * pixels[..., 1]
    ids[ids == _IGNORED] = 0
    if ids.max(initial=0) > classes:
        raise AnnotationError(f"class id {ids.max()}; it must be 0, {_IGNORED}, or at most {classes}")
    return ids


def _regions(ids: NDArray[np.int64], classes: list[int]) -> list[dict[str, Any]]:
    found, counts = np.unique(ids, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    out = []
    for number in found[order][found[order] > 0].tolist():
        label = classes[number - 1]
        out.append({
            **mask_columns(ids.shape, encode_mask(ids == number)), "label": label, "score": 1.0,
            "topk_labels": [label], "topk_scores": [1.0], "alignment": None,
        })  # fmt: skip
    return out
