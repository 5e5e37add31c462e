"""List the images of any source that `--images` takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from build.config.options import ConfigError
from build.images.folder import list_folder
from build.images.hub import download_parquet
from build.images.listing import ImageInput, Images, Listing, check_unique, evenly_spaced
from build.images.parquet import list_parquet
from build.images.tar import list_tar
from mlimagenet_data.classes import class_of_folder
from mlimagenet_data.images import IMAGE_EXTENSIONS
from mlimagenet_data.names import image_id_of

__all__ = ["list_images"]


def list_images(images: str, *, split: str, unlabelled: bool = False, limit: int = 0) -> Listing:
    """List the images of a source, in any form that `--images` takes.

    Raises:
        ConfigError: If the source does not exist, holds no image, names an unknown class, or two images would share an id.
    """
    root, files = _resolve(images, split)
    ignored: Counter[str] = Counter()
    if files:
        rows = (row for file in files for row in _LISTS[file.suffix](root, file))
        found = Images.of(_without_label(row) if unlabelled else row for row in rows)
        found = check_unique(found)
    else:
        found, ignored = list_folder(root, unlabelled=unlabelled)
    if not len(found):
        raise ConfigError(
            f"images: no image files in {images if files else root} (extensions: {', '.join(IMAGE_EXTENSIONS)})"
        )
    if limit and limit < len(found):
        found = found.take(evenly_spaced(range(len(found)), limit))
    return Listing(root, found, ignored)


def _resolve(images: str, split: str) -> tuple[Path, list[Path]]:
    """Return the root and its tar or Parquet files; no files for a folder tree."""
    if images.startswith("hf:"):
        return _resolve(download_parquet(images[3:], split), split)
    path = Path(images)
    if path.suffix in _LISTS and path.is_file():
        return path.parent, [path]
    if not path.is_dir():
        raise ConfigError(f"images: {path}: no such folder, .tar file or .parquet file")
    inner = path / split
    has_classes = any(class_of_folder(entry.name) is not None and entry.is_dir() for entry in path.iterdir())
    root = inner if inner.is_dir() and not has_classes else path
    for folder in (root, root / "data"):
        files = sorted(p for p in folder.glob("*") if p.suffix in _LISTS and p.is_file()) if folder.is_dir() else []
        named = [p for p in files if p.name.startswith((f"{split}-", f"{split}_", f"{split}."))]
        if files and len({p.suffix for p in named or files}) > 1:
            raise ConfigError(
                f"images: {folder} holds both .tar and .parquet files; pass one file, or move one kind away"
            )
        if files and not has_classes:
            return folder, named or files
    return root, []


def _without_label(image: ImageInput) -> ImageInput:
    return replace(image, image_id=image_id_of(image.file_name, unlabelled=True), label=None)


_LISTS = {".tar": list_tar, ".parquet": list_parquet}
