"""File names, image ids and classes: the one place that turns a photograph's path into its id.

Copies of ImageNet name the same photograph differently. All of these are `n01440764/n01440764_10026`:

    n01440764/n01440764_10026.JPEG              class folders named by WordNet id
    0/n01440764_10026.JPEG                      class folders named by class index
    train/n01440764/n01440764_10026.JPEG        a folder above the class folder
    n01440764_10026.JPEG                        one flat folder; the paper's TSV
    n01440764_10026_n01440764.JPEG              ILSVRC/imagenet-1k on the Hugging Face Hub
    n01440764/n01440764_10026.jpg               WebDataset members, ReLabel's and ImageNet-AB's files

The rules, in order:

1. Split the path at `/` (or `\\`) and take the extension off its last part, the stem.
2. The class is that of the class folder, else the WordNet id at the start of the stem (`n01440764_...`), else the one at its
   end (`..._n01440764`), else the label that the caller knows. The class folder is the first folder named by a WordNet id, or
   the top folder (below `train`, `val`, `validation` or `test`) if it is named by a class index.
3. A trailing `_<wnid>` that repeats the class is dropped from the stem.
4. The id is `<wnid>/<path below the class folder>`, or the whole path where there is no class.

ImageNet numbers its own photographs, so their stems alone identify them. `join_key` uses that: annotations made from a flat
validation folder, which names no class, join photographs in class folders, and the other way round.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mlimagenet_data.classes import class_of_folder, imagenet_classes

__all__ = [
    "class_of_path",
    "image_id_of",
    "is_plain_path",
    "join_key",
    "path_candidates",
    "validation_number",
]

_MOST_CHARACTERS = 10_000
_SPLITS = ("train", "val", "validation", "test")
_PREFIX = re.compile(r"(n\d{8})_.")
_SUFFIX = re.compile(r"(.+)_(n\d{8})")
_IMAGENET = re.compile(r"(?:n\d{8}_\d+|ILSVRC20\d\d_(?:train|val|test)_\d{8})")  # ImageNet's own file stems
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?")
_EXTENSION = re.compile(r"(?<=[^/.])\.[^./]*$")


def _parse(name: str) -> tuple[int | None, str]:
    """Return the class that a path names, and the path below its class folder without extension and repeated wnid."""
    *folders, last = _EXTENSION.sub("", name.replace("\\", "/")).split("/")
    table = imagenet_classes()
    label, below = _class_folder(folders)
    folders = folders[below:]
    suffix = _SUFFIX.fullmatch(last)
    if label is None and (prefix := _PREFIX.match(last)):
        label = table.wnid_to_index.get(prefix[1])
        folders = folders if label is None else []
    if label is None and suffix:
        label = table.wnid_to_index.get(suffix[2])
        folders = folders if label is None else []
    if label is not None and suffix and suffix[2] == table.wnids[label]:
        last = suffix[1]
    return label, "/".join([*folders, last])


def _class_folder(folders: list[str]) -> tuple[int | None, int]:
    """Return the class of the class folder, and the number of folders down to and with it; None and 0 without one."""
    known = imagenet_classes().wnid_to_index
    for place, folder in enumerate(folders):
        if folder in known:
            return known[folder], place + 1
    top = 1 if folders and folders[0] in _SPLITS else 0
    label = class_of_folder(folders[top]) if len(folders) > top else None
    return label, 0 if label is None else top + 1


def class_of_path(name: str) -> int | None:
    """Return the class that a path names by folder or file name, None if it names none."""
    return _parse(name)[0]


def image_id_of(name: str, label: int | None = None, *, unlabelled: bool = False) -> str:
    """Return the image_id of a photograph's path; the module's docstring states the rules.

    Args:
        name: The path, relative to the split's folder.
        label: The photograph's class index, where the caller knows it. Used only if the path names no class.
        unlabelled: Do not look for a class: the id is the path without its extension.
    """
    if unlabelled:
        return _EXTENSION.sub("", name.replace("\\", "/"))
    found, rest = _parse(name)
    found = label if found is None else found
    if found is None:
        return rest
    wnid = imagenet_classes().wnids[found]
    return f"{wnid}/{rest.removesuffix(f'_{wnid}')}"


def join_key(image_id: str) -> str:
    """Return the part of an image_id that identifies the photograph in every copy.

    ImageNet's own photographs are identified by their stem (`n01440764_10026`, `ILSVRC2012_val_00000293`), all others by the
    whole id. Ids of earlier releases, which kept a trailing `_<wnid>` or an index folder, give the same key.
    """
    folder, _, stem = image_id.rpartition("/")
    if match := _SUFFIX.fullmatch(stem):
        if _IMAGENET.fullmatch(match[1]):
            return match[1]
    if _IMAGENET.fullmatch(stem):
        return stem
    top, slash, rest = image_id.partition("/")
    label = class_of_folder(top) if slash else None
    return image_id if label is None else f"{imagenet_classes().wnids[label]}/{rest}"


def path_candidates(file_name: str, image_id: str, label: int | None) -> list[str]:
    """Return the paths, without extension, that a photograph has in the copies of ImageNet that users keep.

    Args:
        file_name: Its path where it was annotated, `/`-separated.
        image_id: Its id.
        label: Its class index, None if unknown.

    Returns:
        In a fixed order, the same for every photograph: as annotated, by WordNet id, by class index, flat, and flat with the
        Hub's trailing WordNet id. Without a class the second, third and last are the flat path.
    """
    folder, _, below = image_id.partition("/")
    wnids = imagenet_classes()
    if label is None and below:
        label = wnids.wnid_to_index.get(folder)
    below = below or folder
    stem = PurePosixPath(below).name
    own = _EXTENSION.sub("", file_name)
    if label is None:
        return [own, stem, stem, stem, stem]
    wnid = wnids.wnids[label]
    return [own, f"{wnid}/{below}", f"{label}/{below}", stem, f"{stem}_{wnid}"]


def validation_number(name: str) -> tuple[int, str | None] | None:
    """Return the number of an ImageNet validation photograph, and the WordNet id at the end of its name (None without one).

    Args:
        name: A path such as `ILSVRC2012_val_00000293.JPEG` or `ILSVRC2012_val_00000293_n01440764.JPEG`.

    Returns:
        None if the path is not that of a validation photograph.
    """
    match = _VALIDATION.fullmatch(_EXTENSION.sub("", name.rpartition("/")[2]))
    return (int(match[1]), match[2]) if match else None


def is_plain_path(name: str | None) -> bool:
    """Return whether a path stays below the folder it is joined to, on every system: relative, no `..`, no drive, no `\\`."""
    if not name or len(name) > _MOST_CHARACTERS or name.startswith("/") or "\\" in name or "\0" in name:
        return False
    parts = name.split("/")
    return ":" not in parts[0] and not {"", ".", ".."} & set(parts)
