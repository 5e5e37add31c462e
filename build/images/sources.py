"""List the images of any source that `--images` takes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa

from build.config.options import BuildConfig, ConfigError
from build.images.containers import is_container
from build.images.folder import list_folder
from build.images.hub import download_parquet
from build.images.listing import Images, Listing, check_unique, evenly_spaced, left_out_text, other_file
from build.images.parquet import list_parquet
from build.images.tar import list_tar
from mlimagenet_data.classes import class_of_folder
from mlimagenet_data.files.printing import shown
from mlimagenet_data.files.walk import walk_files
from mlimagenet_data.images import IMAGE_EXTENSIONS, is_image_name

__all__ = ["input_paths", "list_images"]

_LISTS = {".tar": list_tar, ".parquet": list_parquet}
_MOST_REASONS = 50
_OTHERS = "tar and Parquet files of other splits or folders"


def list_images(images: str, *, split: str, unlabelled: bool = False, limit: int = 0) -> Listing:
    """List the images of a source, in any form that `--images` takes.

    Raises:
        ConfigError: If the source does not exist, holds no image or images in two forms, names an unknown class,
            contradicts itself, or two images would share an id.
    """
    left_out: Counter[str] = Counter()
    root, files = _resolve(images, split, left_out)
    if files:
        lists = [_LISTS[f.suffix.lower()](root, f, left_out, unlabelled=unlabelled) for f in files]
        found = check_unique(Images(pa.concat_tables(part.table for part in lists).unify_dictionaries()))
    else:
        found = list_folder(root, left_out, unlabelled=unlabelled)
    left_out = _shortened(left_out)
    if not len(found):
        others = f"; left out: {left_out_text(left_out)}" if left_out else ""
        raise ConfigError(
            f"images: no image files in {images if files else root} (extensions: {', '.join(IMAGE_EXTENSIONS)}){others}"
        )
    if limit and limit < len(found):
        left_out["images beyond --limit"] = len(found) - limit
        found = found.take(evenly_spaced(range(len(found)), limit))
    return Listing(root, found, left_out)


def input_paths(config: BuildConfig) -> list[Path]:
    """Return the files and folders that a build reads."""
    paths = (config.images, config.label_maps, config.byproducts)
    return [Path(path) for path in paths if path and not path.startswith("hf:")]


def _resolve(images: str, split: str, left_out: Counter[str]) -> tuple[Path, list[Path]]:
    """Return the root and its tar or Parquet files; no files for a folder tree."""
    is_hub = images.startswith("hf:")
    path = Path(download_parquet(images[3:], split) if is_hub else images)
    if is_container(path.name) and path.is_file():
        real = path.resolve()
        return (real.parent, [real]) if real.suffix == path.suffix else _with_targets(path.parent, [path])
    if not path.is_dir():
        raise ConfigError(f"images: {path}: no such folder, .tar file or .parquet file")
    root = path
    if (path / split).is_dir() and not _has_classes(path):
        root = path / split
        beside = sum(entry.is_file() and is_image_name(entry.name) for entry in os.scandir(path))
        left_out[f"image files beside the folder {split}/"] += beside
    if not _has_classes(root):
        for folder in (root, root / "data"):
            if files := _containers(root, folder, split, left_out, pictures=is_hub):
                return _with_targets(folder, files) if is_hub else (folder, files)
    return root, []


def _has_classes(folder: Path) -> bool:
    return any(class_of_folder(entry.name) is not None and entry.is_dir() for entry in folder.iterdir())


def _with_targets(folder: Path, files: list[Path]) -> tuple[Path, list[Path]]:
    """Return a root that also holds what the files link to, as in the Hub's cache, and the files below it."""
    real = folder.resolve()
    root = Path(os.path.commonpath([real, *(file.resolve().parent for file in files)]))
    return root, [real / file.relative_to(folder) for file in files]


def _containers(root: Path, folder: Path, split: str, left_out: Counter[str], *, pictures: bool) -> list[Path]:
    """Return the split's tar or Parquet files directly in a folder, all if none is named by the split.

    Args:
        root: The folder that is searched for other files.
        folder: It or one of its folders.
        split: The split.
        left_out: Counts the other files.
        pictures: Whether image files may lie beside them, as in repositories on the Hub.

    Raises:
        ConfigError: If it holds both kinds, or image files lie below the root.
    """
    files = sorted(p for p in folder.glob("*") if is_container(p.name) and p.is_file()) if folder.is_dir() else []
    chosen = [p for p in files if p.name.startswith((f"{split}-", f"{split}_", f"{split}."))] or files
    if not chosen:
        return []
    if len({p.suffix.lower() for p in chosen}) > 1:
        raise ConfigError(f"images: {folder} holds both .tar and .parquet files; pass one file, or move one kind away")
    taken = {p.relative_to(root).as_posix() for p in chosen}
    for name, entry in walk_files(root, left_out, may_skip=lambda folder: True):
        if is_image_name(name) and not pictures:
            raise ConfigError(
                f"images: {root} holds image files ({shown(name)}) and {chosen[0].suffix} files ({shown(chosen[0].name)}); "
                f"pass {chosen[0]} itself, or move one kind away"
            )
        if name not in taken:
            left_out[_OTHERS if is_container(entry.name) else other_file(name)] += 1
    return chosen


def _shortened(left_out: Counter[str]) -> Counter[str]:
    """Return the counts without zeros, with the rarest reasons in one."""
    most = Counter(dict(left_out.most_common(_MOST_REASONS)))
    most["other reasons"] += left_out.total() - most.total()
    return +most
