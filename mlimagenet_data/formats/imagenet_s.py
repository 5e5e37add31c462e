"""Read ImageNet-S's semantic masks (Gao et al., arXiv 2106.03149): PNG files in class folders, one class id per pixel.

A pixel's id is R + 256 G: 0 is everything else, 1000 is ignored, and 1 to 919 (300, 50) number the subset's WordNet ids
in sorted order. `data/categories/ImageNetS_categories_im919.txt` in github.com/LUSSeg/ImageNet-S lists them. ImageNet-S
merges five classes of ImageNet-1k into others (laptop into notebook, for example), so a mask's class may differ from
its image's label.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.masks import MAX_CELLS, encode_mask
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.files.reading import read_regular
from mlimagenet_data.files.walk import walk_files
from mlimagenet_data.formats.faults import Faults, shortened
from mlimagenet_data.formats.regions import mask_columns
from mlimagenet_data.images import load_image, open_image
from mlimagenet_data.names import class_of_path, image_id_of, join_key

__all__ = ["read_class_list", "read_imagenet_s", "read_mask"]

_IGNORED = 1000
_MOST_BYTES = 1 << 20


def read_class_list(file: Path) -> list[int]:
    """Return the classes with ids 1, 2, ... (sorted WordNet ids), from a file of WordNet ids, one per line in any order.

    Raises:
        AnnotationError: If a line is not a WordNet id of ImageNet-1k, or repeats an earlier line.
    """
    try:
        lines = read_regular(file, _MOST_BYTES).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{file}: not UTF-8: {error}") from error
    except ValueError as error:
        raise AnnotationError(f"{error}; not a list of classes") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        wnid = line.strip()
        if wnid in found or (wnid and wnid not in imagenet_classes().wnid_to_index):
            raise AnnotationError(
                f"{file}: line {number}: {wnid[:80]!r} is not a WordNet id of ImageNet-1k, or repeats an earlier line"
            )
        if wnid:
            found[wnid] = imagenet_classes().wnid_to_index[wnid]
    if not 0 < len(found) < _IGNORED:
        raise AnnotationError(f"{file}: {len(found)} classes; ImageNet-S has 50, 300 or 919")
    return [found[wnid] for wnid in sorted(found)]


def read_imagenet_s(folder: Path, classes: list[int], faults: Faults) -> Iterator[dict[str, Any]]:
    """Yield one row per mask file `<wnid>/<stem>.png`, sorted by name; its image is `<wnid>/<stem>.JPEG`.

    Each class in the mask becomes a label of the image and a region with score 1, on the mask's pixel grid, largest
    region first. Ignored pixels belong to no region.

    Args:
        folder: E.g. `train-semi-segmentation`.
        classes: The class of each id, from `read_class_list`.
        faults: Collects files whose path names no class, that repeat a photograph, that are not masks, or that hold an
            id without a class.

    Raises:
        AnnotationError: If there are no PNG files, or a file is invalid and `faults` does not skip it; the message
            names file and value.
    """
    names = sorted(name for name, _ in walk_files(folder) if name.lower().endswith(".png"))
    if not names:
        raise AnnotationError(f"{folder}: no PNG files in this folder or below it")
    seen: dict[str, str] = {}
    for name in names:
        label, image_id = class_of_path(name), image_id_of(name)
        if label is None:
            faults.add(str(folder / name), "folder", name.rpartition("/")[0], "must be a WordNet id of ImageNet-1k")
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
    """Return the class ids of a mask's pixels, (H, W); 0 where no class is shown.

    Raises:
        ImageError: If the file cannot be read as an image.
        AnnotationError: If it is too large, or holds an id other than 0, 1000 and those of the classes.
    """
    with open_image(file, formats=("PNG",)) as image:
        width, height = image.size
    if height * width > MAX_CELLS:
        raise AnnotationError(f"{height} x {width} pixels; a mask must have at most {MAX_CELLS}")
    pixels = np.asarray(load_image(file))
    ids: NDArray[np.int64] = 256 * pixels[..., 1].astype(np.int64) + pixels[..., 0]
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
