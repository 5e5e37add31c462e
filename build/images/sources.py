"""Where images come from: a folder tree, tar files in WebDataset's form, or Parquet files as `datasets` writes image datasets."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from build.config.options import ConfigError
from build.images.listing import ImageInput, Images, Listing, check_unique, evenly_spaced, list_folder
from mlimagenet_data.classes import NUM_CLASSES, class_of_folder
from mlimagenet_data.errors import ImageError
from mlimagenet_data.images import IMAGE_EXTENSIONS, load_image
from mlimagenet_data.names import class_of_path, image_id_of, without_root

__all__ = ["ImageReader", "list_images"]

_ROW_GROUPS = 4  # of Parquet files, kept in memory
_MOST_TEXT = 1_000_000  # bytes of a WebDataset sample's .cls or .json


def list_images(images: str, *, split: str, unlabelled: bool = False, limit: int = 0) -> Listing:
    """List the images of a source; see `--images`.

    Raises:
        ConfigError: If the source is not there, holds no image, names an unknown class, or two images would share an image_id.
    """
    root, files = _resolve(images, split)
    ignored: Counter[str] = Counter()
    if files:
        rows = (row for file in files for row in _LISTS[file.suffix](root, file))
        found = Images.of(_relabelled(row, unlabelled) for row in rows)
        found = check_unique(found)
    else:
        found, ignored = list_folder(root, unlabelled=unlabelled)
    if not len(found):
        raise ConfigError(f"images: no image file in {root} (looked for {', '.join(IMAGE_EXTENSIONS)})")
    if limit and limit < len(found):
        found = found.take(evenly_spaced(range(len(found)), limit))
    return Listing(root, found, ignored)


def _resolve(images: str, split: str) -> tuple[Path, list[Path]]:
    """Return the root, and the tar or Parquet files in it; none for a folder tree."""
    if images.startswith("hf:"):
        return _resolve(_downloaded(images[3:], split), split)
    path = Path(images)
    if path.suffix in _LISTS and path.is_file():
        return path.parent, [path]
    if not path.is_dir():
        raise ConfigError(f"images: {path} is not a folder, and no .tar or .parquet file")
    inner = path / split
    has_classes = any(class_of_folder(entry.name) is not None and entry.is_dir() for entry in path.iterdir())
    root = inner if inner.is_dir() and not has_classes else path
    for folder in (root, root / "data"):
        files = sorted(p for p in folder.glob("*") if p.suffix in _LISTS and p.is_file()) if folder.is_dir() else []
        named = [p for p in files if p.name.startswith((f"{split}-", f"{split}_", f"{split}."))]
        if files and len({p.suffix for p in named or files}) > 1:
            raise ConfigError(f"images: {folder} has both .tar and .parquet files; name one kind, or move one away")
        if files and not has_classes:
            return folder, named or files
    return root, []


def _downloaded(name: str, split: str) -> str:
    from huggingface_hub import snapshot_download

    patterns = [f"data/{split}-*.parquet", f"*/{split}-*.parquet", f"{split}-*.parquet"]
    repo, _, revision = name.partition("@")
    return snapshot_download(repo, repo_type="dataset", revision=revision or None, allow_patterns=patterns)


def _relabelled(image: ImageInput, unlabelled: bool) -> ImageInput:
    if not unlabelled:
        return image
    return ImageInput(
        image_id_of(image.file_name, unlabelled=True),
        image.file_name,
        None,
        image.stamp,
        image.container,
        image.position,
    )


def _plain(name: str, container: Path) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ConfigError(f"images: {container}: {name!r} is no plain relative path")
    return str(path)


def _class(value: Any, container: Path, name: str) -> int | None:
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < NUM_CLASSES:
        raise ConfigError(f"images: {container}: {name}: class {value!r} is not one of 0 to {NUM_CLASSES - 1}")
    return value


def _list_tar(root: Path, file: Path) -> Iterator[ImageInput]:
    """List a tar file of samples <key>.jpg, <key>.cls and <key>.json, in that file's order."""
    info = os.stat(file)
    sample: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    key = ""
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                name = _plain(member.name, file)
                folder, _, base = name.rpartition("/")
                stem, _, extension = base.partition(".")
                own = f"{folder}/{stem}" if folder else stem
                if own != key:
                    yield from _sample(root, file, key, sample, info.st_mtime_ns)
                    key, sample = own, {}
                text = b""
                if extension in ("cls", "json") and member.size <= _MOST_TEXT:
                    text = (archive.extractfile(member) or io.BytesIO()).read()
                sample[f".{extension.lower()}"] = (member, text)
        yield from _sample(root, file, key, sample, info.st_mtime_ns)
    except tarfile.TarError as error:
        raise ConfigError(f"images: {file}: not a readable, uncompressed tar file: {error}") from error


def _sample(
    root: Path, file: Path, key: str, sample: dict[str, tuple[tarfile.TarInfo, bytes]], modified: int
) -> Iterator[ImageInput]:
    extension = next((e for e in sample if e.endswith(IMAGE_EXTENSIONS)), None)
    if extension is None:
        return
    member, _ = sample[extension]
    try:
        facts = json.loads(sample[".json"][1] or b"{}") if ".json" in sample else {}
        if not isinstance(facts, dict):
            raise ValueError(f"the .json holds no object, but {str(facts)[:80]}")
        value = int(sample[".cls"][1]) if ".cls" in sample else facts.get("label")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"images: {file}: {key}: its .cls or .json cannot be read: {error}") from error
    own = _plain(member.name, file)
    named = [
        facts[field] for field in ("filename", "file_name") if isinstance(facts.get(field), str)
    ]  # ours is the latter
    name = _plain(named[0], file) if named else own
    known = (_class(value, file, key), class_of_path(name), class_of_path(own))
    label = next((index for index in known if index is not None), None)
    container = file.relative_to(root).as_posix()
    stamp = (member.size, modified)
    yield ImageInput(image_id_of(name, label), own, label, stamp, container, member.offset_data)


def _list_parquet(root: Path, file: Path) -> Iterator[ImageInput]:
    """List a Parquet file with the columns image {bytes, path} and, if there, label."""
    info = os.stat(file)
    try:
        parquet = pq.ParquetFile(file)
        if "image" not in parquet.schema_arrow.names or "path" not in _fields(parquet.schema_arrow.field("image")):
            raise ConfigError(
                f"images: {file}: no column `image` with bytes and path, as `datasets` writes image datasets"
            )
        has_label = "label" in parquet.schema_arrow.names
        rows = parquet.read(columns=["image.path", *(["label"] if has_label else [])])
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"images: {file}: not a readable Parquet file: {error}") from error
    size = info.st_size // max(rows.num_rows, 1)  # about that of one image
    paths = rows["image"].combine_chunks().field("path").to_pylist()
    labels = rows["label"].to_pylist() if has_label else [None] * len(paths)
    container = file.relative_to(root).as_posix()
    for row, (path, value) in enumerate(zip(paths, labels, strict=True)):
        label = _class(value, file, f"row {row}")
        name = path or f"{file.stem}-{row:07d}.jpg"
        name = _plain(without_root(name), file)  # some hold the maker's own paths
        label = class_of_path(name) if label is None else label
        yield ImageInput(image_id_of(name, label), name, label, (size, info.st_mtime_ns), container, row)


def _fields(field: pa.Field) -> list[str]:
    return [child.name for child in field.type] if pa.types.is_struct(field.type) else []


_LISTS = {".tar": _list_tar, ".parquet": _list_parquet}


class ImageReader:
    """Opens images of a listing; several threads may share one.

    Args:
        root: The listing's.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[str, int], pa.ChunkedArray] = OrderedDict()
        self._starts: dict[str, list[int]] = {}

    def image(self, listed: ImageInput) -> Image.Image:
        """Return an RGB image.

        Raises:
            ImageError: As `mlimagenet_data.images.load_image` does; the message names the file.
        """
        if listed.container is None:
            return load_image(self._root / listed.file_name)
        place = f"{self._root / listed.container}: {listed.file_name}"
        try:
            return load_image(io.BytesIO(self.content(listed)))
        except ImageError as error:
            raise ImageError(f"{place}: {str(error).partition(': ')[2]}", status=error.status) from error
        except (OSError, pa.ArrowException) as error:
            raise ImageError(f"{place}: {error}", status="unreadable") from error

    def content(self, listed: ImageInput) -> bytes:
        """Return an image file's bytes."""
        if listed.container is None:
            return (self._root / listed.file_name).read_bytes()
        path = self._root / listed.container
        if path.suffix == ".parquet":
            return self._row(path, listed.position)
        with open(path, "rb") as file:
            return os.pread(file.fileno(), listed.stamp[0], listed.position)

    def _row(self, path: Path, row: int) -> bytes:
        with self._lock:  # neighbouring images lie in one row group, which is read once
            parquet = None
            if str(path) not in self._starts:
                parquet = pq.ParquetFile(path)
                counts = [parquet.metadata.row_group(k).num_rows for k in range(parquet.num_row_groups)]
                self._starts[str(path)] = [sum(counts[:k]) for k in range(len(counts))]
            starts = self._starts[str(path)]
            group = max(k for k, start in enumerate(starts) if start <= row)
            if (str(path), group) not in self._groups:
                found = (parquet or pq.ParquetFile(path)).read_row_group(group, columns=["image.bytes"])
                self._groups[str(path), group] = found["image"]
                if len(self._groups) > _ROW_GROUPS:
                    self._groups.popitem(last=False)
            value = self._groups[str(path), group][row - starts[group]].as_py()
        if value is None or value["bytes"] is None:
            raise OSError("the row holds no bytes, but perhaps a path: save the dataset with its images embedded")
        return bytes(value["bytes"])
