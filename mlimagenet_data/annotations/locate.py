"""Find annotated photographs in a user's copy of the images, whose file names may differ from the annotated copy's."""

from __future__ import annotations

import contextlib
import itertools
import os
import posixpath
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import ImageError
from mlimagenet_data.files.walk import walk_files
from mlimagenet_data.images import is_image_name
from mlimagenet_data.names import class_of_path, image_id_of, join_key, path_candidates

__all__ = ["ImageListing", "ImageLocator", "open_copy", "split_folder"]

_LOOKED_FOR = 1000  # photographs that show whether a copy holds any
_SAMPLE = 16  # photographs that show how a copy names its files
_MOST_ENTRIES = 10_000  # folder entries read to sample the files of a copy
_EXTENSIONS = ("", ".JPEG", ".jpeg", ".jpg", ".JPG", ".png")  # "": as annotated

Layout = tuple[int, str]  # index into `path_candidates`, and extension
_AS_ANNOTATED: Layout = (0, "")
_LISTED: Layout = (-1, "")


def split_folder(images: str | os.PathLike[str], split: str) -> Path:
    """Return the folder that file names are relative to: `<images>/<split>` if it exists, else `images`."""
    inner = Path(images) / split
    return inner if inner.is_dir() else Path(images)


def open_copy(images: str | os.PathLike[str], store: AnnotationStore) -> ImageLocator:
    """Return the locator of a user's copy of a split's photographs, which may be incomplete.

    Args:
        images: The split's folder, or its parent.
        store: The annotations.

    Raises:
        ImageError: If the folder does not exist, or holds none of up to 1000 annotated photographs while none of its own
            files that are looked at is annotated.
    """
    folder = split_folder(images, store.split)
    if not folder.is_dir():
        raise ImageError(f"{folder}: {'not a' if folder.exists() else 'no such'} folder", status="missing")
    locator = ImageLocator(folder, store)
    rows = [int(row) for row in _spread(store.usable_rows(), _LOOKED_FOR)]
    if not rows or any(os.path.exists(folder / locator.row_name(row)) for row in rows):
        return locator
    unknown, seen = locator.sample_unannotated()
    if len(unknown) < seen:
        return locator
    raise ImageError(
        f"{folder}: none of {len(rows)} annotated images looked for is here, such as {store.file_name(rows[0])}; "
        f"{f'it holds {unknown[0]}, which has no annotations' if seen else 'it holds no images'}; name the folder of your "
        f"copy of these images, or its folder {store.split}",
        status="missing",
    )


class ImageListing:
    """The image files of one copy: those directly in its folder and those in its class folders.

    The folder is listed at the first lookup. Threads may share a listing.

    Args:
        folder: The split's folder. It need not exist.

    Attributes:
        folder: The split's folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self._lock = threading.Lock()
        self._names: dict[str, str] | None = None  # by join key

    def find(self, image_id: str) -> str | None:
        """Return a photograph's path below the folder, `/`-separated; None if it is missing.

        If several files are the same photograph, return the first by name.
        """
        with self._lock:
            if self._names is None:
                self._names = {join_key(image_id_of(name)): name for name in sorted(self._listed(), reverse=True)}
        return self._names.get(join_key(image_id))

    def _listed(self) -> Iterator[str]:
        for entry in _entries(self.folder):
            if _is_class_folder(entry):
                yield from (f"{entry.name}/{name}" for name, _ in walk_files(entry.path) if _is_image(name))
            elif _is_image(entry.name):
                yield entry.name


class ImageLocator:
    """Maps annotated photographs to the files of one copy.

    A few photographs show how the copy names its files: as annotated, in class folders by WordNet id or class index, or
    in one flat folder, with the annotated extension or another one. If they share no layout, all files are listed and
    joined by `mlimagenet_data.names.join_key`. Setup takes 16 `stat` calls for a complete copy named as annotated,
    about a hundred otherwise; lookups take none. The copy may be incomplete.

    Pickling a locator saves its folder and store; unpickling finds the layout again.

    Args:
        folder: The split's folder. It need not exist.
        store: The annotations.

    Attributes:
        folder: The split's folder.
    """

    def __init__(self, folder: str | os.PathLike[str], store: AnnotationStore) -> None:
        self.folder = os.fspath(folder)
        self._store = store
        self._listing = ImageListing(folder)
        self._layout = self._find_layout()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self._store)

    def name(self, record: Record) -> str:
        """Return a photograph's path below the folder, `/`-separated; the file may be missing."""
        return self.find(record.file_name, record.image_id, record.label)

    def find(self, file_name: str, image_id: str, label: int | None) -> str:
        """Return a photograph's path below the folder, from its annotation columns."""
        if self._layout == _AS_ANNOTATED:
            return file_name
        if self._layout == _LISTED:
            return self._listing.find(image_id) or file_name
        form, extension = self._layout
        return path_candidates(file_name, image_id, label)[form] + (extension or posixpath.splitext(file_name)[1])

    def row_name(self, row: int) -> str:
        """Return the path below the folder of the photograph in an annotation row."""
        if self._layout == _AS_ANNOTATED:
            return self._store.file_name(row)
        return self.name(self._store.record(row))

    def path(self, record: Record) -> str:
        """Return a photograph's path; the file may be missing."""
        return os.path.join(self.folder, self.name(record))

    def _find_layout(self) -> Layout:
        usable = self._store.usable_rows()
        rows = [int(row) for row in _spread(usable)]
        if all(self._is_there(self._store.file_name(row)) for row in rows):
            return _AS_ANNOTATED
        pairs = itertools.chain(self._found(rows), self._annotated())
        layouts = [_layouts(record, name) for record, name in pairs]
        shared = set.intersection(*layouts) if layouts else set()
        return min(shared, key=lambda layout: (layout[1], layout[0]), default=_LISTED)

    def _is_there(self, name: str) -> bool:
        return os.path.exists(os.path.join(self.folder, name))

    def _found(self, rows: list[int]) -> Iterator[tuple[Record, str]]:
        """Yield sampled photographs that have a file, with its path; this works even if few are annotated."""
        for row in rows:
            record = self._store.record(row)
            paths = dict.fromkeys(path_candidates(record.file_name, record.image_id, record.label))
            names = (path + (end or posixpath.splitext(record.file_name)[1]) for end in _EXTENSIONS for path in paths)
            if name := next(filter(self._is_there, names), None):
                yield record, name

    def sample_unannotated(self) -> tuple[list[str], int]:
        """Return those of some sampled files that have no annotations, and the number of files sampled."""
        files = list(self._sampled())
        return [name for name in files if not self._is_annotated(name)], len(files)

    def _is_annotated(self, name: str) -> bool:
        try:
            self._store.find(image_id_of(name))
        except KeyError:
            return False
        return True

    def _annotated(self) -> Iterator[tuple[Record, str]]:
        """Yield sampled files that are annotated, with their path; this works even if few photographs are present."""
        for name in self._sampled():
            with contextlib.suppress(KeyError):
                yield self._store.record(self._store.find(image_id_of(name))), name

    def _sampled(self) -> Iterator[str]:
        """Yield the paths of some image files of the copy, spread over its class folders."""
        entries = list(itertools.islice(_entries(self.folder), _MOST_ENTRIES))
        folders = sorted((entry for entry in entries if _is_class_folder(entry)), key=lambda entry: entry.name)
        inside = (f"{folder.name}/{file.name}" for folder in _spread(folders) for file in _first_image(folder.path))
        names = (entry.name for entry in entries if _is_image(entry.name))
        yield from itertools.chain(inside, itertools.islice(names, _SAMPLE))


def _spread(items: Any, most: int = _SAMPLE) -> list[Any]:
    """Return evenly spaced items of a sequence; all of a short one."""
    count = min(most, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def _layouts(record: Record, name: str) -> set[Layout]:
    """Return the layouts that give a photograph this path."""
    stem, extension = posixpath.splitext(name)
    extensions = {extension, ""} if extension == posixpath.splitext(record.file_name)[1] else {extension}
    forms = enumerate(path_candidates(record.file_name, record.image_id, record.label))
    return {(form, end) for form, path in forms if path == stem for end in extensions}


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder; none if it cannot be read."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _first_image(folder: str) -> list[os.DirEntry[str]]:
    return list(itertools.islice((entry for entry in _entries(folder) if _is_image(entry.name)), 1))


def _is_class_folder(entry: os.DirEntry[str]) -> bool:
    return class_of_path(f"{entry.name}/_") is not None and os.path.isdir(entry.path)


def _is_image(name: str) -> bool:
    return is_image_name(name)
