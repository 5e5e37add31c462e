"""File names, image ids and classes. Only this module derives a photograph's id from its path.

Copies of ImageNet name the same photograph differently. All of these are `n01440764/n01440764_10026`:

    n01440764/n01440764_10026.JPEG              class folders named by WordNet id
    0/n01440764_10026.JPEG                      class folders named by class index
    train/n01440764/n01440764_10026.JPEG        a folder above the class folder
    n01440764_10026.JPEG                        one flat folder; the paper's TSV
    n01440764_10026_n01440764.JPEG              ILSVRC/imagenet-1k on the Hugging Face Hub
    n01440764/n01440764_10026.jpg               WebDataset members, ReLabel's and ImageNet-AB's files

The rules, in order:

1. Split the path at `/` (or `\\`) and remove the extension of the last part; the rest of it is the stem.
2. The class in the id is that of the class folder, else the WordNet id at the start of the stem (`n01440764_...`), else
   the one at its end (`..._n01440764`), else the label that the caller passes. The class folder is the first folder
   named by a WordNet id; if there is none, it is the top folder (below `train`, `val`, `validation` or `test`),
   provided its name is a class index.
3. A trailing `_<wnid>` that repeats the class is dropped from the stem.
4. The id is `<wnid>/<path below the class folder>`, or the whole path if there is no class.

ImageNet numbers its own photographs, so their stems alone identify them. `join_key` uses that: annotations made from a
flat validation folder, which names no class, join photographs in class folders, and vice versa. A stem that names another class
than the class folder identifies nothing: such photographs join by their whole id.
"""

from __future__ import annotations

import posixpath
import re

from mlimagenet_data.classes import class_of_folder, imagenet_classes

__all__ = [
    "class_of_path",
    "image_id_of",
    "is_plain_path",
    "join_key",
    "path_candidates",
    "validation_number",
    "without_root",
]

_MOST_CHARACTERS = 10_000
_SPLITS = ("train", "val", "validation", "test")
_PREFIX = re.compile(r"(n\d{8})_.", re.ASCII)
_SUFFIX = re.compile(r"(.+)_(n\d{8})", re.ASCII | re.DOTALL)
# ImageNet's own file stems
_IMAGENET = re.compile(r"(?:n\d{8}_\d+|ILSVRC20\d\d_(?:train|val|test)_\d{8})", re.ASCII)
_USUAL = re.compile(r"(n[0-9]{8})/(\1_[0-9]+)")
_ROOT = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?/")  # of an absolute path, drive or URL
# control characters, and what Windows reads as folders or drives
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]|\A.:")
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?", re.ASCII)


def class_of_path(name: str) -> int | None:
    """Return the class that a path names by folder or file name; None if it names none."""
    return _parse(_without_extension(name))[0]


def image_id_of(name: str, label: int | None = None, *, unlabelled: bool = False) -> str:
    """Return the image_id of a photograph's path, by the rules in the module docstring.

    Args:
        name: The path, relative to the split's folder.
        label: The photograph's class index, if known. Used only if the path names no class.
        unlabelled: Ignore classes: the id is the path without its extension.
    """
    path = _without_extension(name)
    if unlabelled:
        return path
    found, below = _parse(path)
    label = label if found is None else found
    return below if label is None else f"{imagenet_classes().wnids[label]}/{below}"


def join_key(image_id: str) -> str:
    """Return the part of an image_id that identifies the photograph in every copy.

    ImageNet's own photographs are identified by their stem (`n01440764_10026`, `ILSVRC2012_val_00000293`), all others
    by the whole id, such as `n01514668/n01491361_5`, whose stem names another class. Ids of earlier releases, which kept a
    trailing `_<wnid>` or an index folder, have the same key.
    """
    if (usual := _USUAL.fullmatch(image_id)) and usual[1] in imagenet_classes().wnid_to_index:
        return usual[2]  # what the rules below give, in a third of the time
    label, below = _parse(image_id)
    whole = below if label is None else f"{imagenet_classes().wnids[label]}/{below}"
    stem = image_id.rpartition("/")[2]
    if not _IMAGENET.fullmatch(stem):
        match = _SUFFIX.fullmatch(stem)
        if match is None or not _IMAGENET.fullmatch(match[1]):
            return whole
        stem = match[1]
    return stem if _is_own(stem, label) else whole


def _is_own(stem: str, label: int | None) -> bool:
    """Return whether a stem is one of ImageNet's, and names no other class than the photograph's."""
    if not _IMAGENET.fullmatch(stem):
        return False
    named = imagenet_classes().wnid_to_index.get(stem.partition("_")[0])
    return named is None or label is None or named == label


def path_candidates(file_name: str, image_id: str, label: int | None) -> list[str]:
    """Return the paths, without extension, that a photograph can have in common copies of ImageNet.

    Args:
        file_name: Its path in the annotated copy, `/`-separated.
        image_id: Its id.
        label: Its class index, None if unknown. Used only if the id names no class.

    Returns:
        Five paths, in the same order for every photograph: as annotated, by WordNet id, by class index, flat, and flat
        with the Hub's trailing WordNet id. The path by WordNet id replaces a flat path that would name another
        photograph. Without a class, all but the first are the flat path, or the id if the photograph is not ImageNet's
        own. All but the first stay inside the folder that they are joined to.
    """
    found, below = _parse(image_id)
    label = label if found is None else found
    own, stem = _without_extension(file_name), below.rpartition("/")[2]
    if not (is_plain_path(below) and is_plain_path(stem)):  # ids are untrusted and may not be paths
        return [own] * 5
    is_imagenet = _is_own(stem, label)
    if label is None:
        return [own, *[stem if is_imagenet else below] * 4]
    wnid = imagenet_classes().wnids[label]
    folder = f"{wnid}/{below}"
    flat = [path if is_imagenet or _parse(path) == (label, below) else folder for path in (stem, f"{stem}_{wnid}")]
    return [own, folder, f"{label}/{below}", *flat]


def without_root(name: str) -> str:
    """Shorten an absolute path or URL to the part from its class folder on.

    Without a class folder, shorten it to its file name. Return relative paths unchanged.

    Args:
        name: A path as image datasets store it: `/data/train/n01440764/a.JPEG`,
            `zip://n01440764/a.JPEG::/data/train.zip`.
    """
    path = name.replace("\\", "/").partition("::")[0]
    if not (root := _ROOT.match(path)):
        return name
    *folders, last = path[root.end() :].split("/")
    known = imagenet_classes().wnid_to_index
    first = next((place for place, folder in enumerate(folders) if folder in known), len(folders))
    if folders and first == len(folders) and class_of_folder(folders[-1]) is not None:
        first -= 1
    return "/".join([*folders[first:], last])


def validation_number(name: str) -> int | None:
    """Return the number of an ImageNet validation photograph; None for other paths.

    Args:
        name: A path such as `ILSVRC2012_val_00000293.JPEG` or `ILSVRC2012_val_00000293_n01440764.JPEG`.
    """
    match = _VALIDATION.fullmatch(_without_extension(name).rpartition("/")[2])
    return int(match[1]) if match else None


def is_plain_path(name: str | None) -> bool:
    """Return whether a path stays inside its folder on every system: relative, with no `..`, drive, `\\` or control character."""
    if not name or len(name) > _MOST_CHARACTERS or _NOT_PLAIN.search(name):
        return False
    return not {"", ".", ".."} & set(name.split("/"))


def _without_extension(name: str) -> str:
    return posixpath.splitext(name.replace("\\", "/"))[0]


def _parse(path: str) -> tuple[int | None, str]:
    """Return the class that a path without extension names, and the path below its class folder without the wnid suffix.

    A file whose own name holds the class counts as directly inside its class folder.
    """
    *folders, last = path.split("/")
    table = imagenet_classes()
    label, depth = _class_folder(folders)
    folders = folders[depth:]
    if label is None:
        matches = (_PREFIX.match(last), _SUFFIX.fullmatch(last))
        wnids = [match[place] for place, match in enumerate(matches, 1) if match]
        label = next((table.wnid_to_index[wnid] for wnid in wnids if wnid in table.wnid_to_index), None)
        if label is None:
            return None, path
        folders = []
    end = f"_{table.wnids[label]}"
    while last.endswith(end) and last != end:
        last = last.removesuffix(end)
    return label, "/".join([*folders, last])


def _class_folder(folders: list[str]) -> tuple[int | None, int]:
    """Return the class of the class folder and the number of folders down to it, inclusive; (None, 0) without one."""
    known = imagenet_classes().wnid_to_index
    for place, folder in enumerate(folders):
        if folder in known:
            return known[folder], place + 1
    top = 1 if folders and folders[0] in _SPLITS else 0
    label = class_of_folder(folders[top]) if len(folders) > top else None
    return label, 0 if label is None else top + 1
