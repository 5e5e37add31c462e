"""Finds annotated photographs in a user's copy of the images, which may name its files otherwise than the annotated copy did."""

from __future__ import annotations

import functools
import os
from pathlib import Path, PurePosixPath

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.images import IMAGE_EXTENSIONS
from mlimagenet_data.names import class_of_path, image_id_of, join_key, path_candidates

__all__ = ["ImageLocator", "split_folder"]

_SAMPLE = 16  # photographs that decide how a copy names its files
_EXTENSIONS = (".JPEG", ".jpeg", ".jpg", ".JPG", ".png")
_AS_ANNOTATED, _LISTED = (0, ""), (-1, "")


def split_folder(images: str | os.PathLike[str], split: str) -> Path:
    """Return the folder that file names are relative to: `<images>/<split>` if it exists, else `images`."""
    inner = Path(images) / split
    return inner if inner.is_dir() else Path(images)


class ImageLocator:
    """Maps annotated photographs to the files of one copy.

    The layout is found once, from a few photographs: as annotated, class folders by WordNet id or by class index, or one flat
    folder, each with the annotated extension or a usual one. If none fits, the folder and its class folders are listed and
    files are joined by `mlimagenet_data.names.join_key`. Opening a copy in a known layout costs a few dozen `stat` calls.

    Args:
        folder: The split's folder.
        store: The annotations.

    Attributes:
        folder: The split's folder.
    """

    def __init__(self, folder: str | os.PathLike[str], store: AnnotationStore) -> None:
        self.folder = os.fspath(folder)
        self._store = store
        rows = store.usable_rows()
        count = min(_SAMPLE, len(rows))
        self._layout = self._find_layout([store.record(int(rows[k * len(rows) // count])) for k in range(count)])

    def __getstate__(self) -> dict[str, object]:
        """Leave out the listing; each process makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_listing"}

    def name(self, record: Record) -> str:
        """Return a photograph's path below the folder, `/`-separated; there need not be such a file."""
        if self._layout == _AS_ANNOTATED:
            return record.file_name
        return self.find(record.file_name, record.image_id, record.label)

    def find(self, file_name: str, image_id: str, label: int | None) -> str:
        """Return a photograph's path below the folder, from its columns in the annotations."""
        if self._layout == _AS_ANNOTATED:
            return file_name
        if self._layout == _LISTED:
            return self._listing.get(join_key(image_id), file_name)
        return _path_in(file_name, image_id, label, *self._layout)

    def row_name(self, row: int) -> str:
        """Return the path below the folder of the photograph in a row of the annotations."""
        if self._layout == _AS_ANNOTATED:
            return self._store.file_name(row)
        return self.name(self._store.record(row))

    def path(self, record: Record) -> str:
        """Return a photograph's path; there need not be such a file."""
        return os.path.join(self.folder, self.name(record))

    def _find_layout(self, sample: list[Record]) -> tuple[int, str]:
        for layout in (_AS_ANNOTATED, *((form, end) for end in ("", *_EXTENSIONS) for form in range(5))):
            paths = (_path_in(record.file_name, record.image_id, record.label, *layout) for record in sample)
            if any(os.path.exists(os.path.join(self.folder, path)) for path in paths):
                return layout
        found = any(join_key(record.image_id) in self._listing for record in sample)
        return _LISTED if found else _AS_ANNOTATED

    @functools.cached_property
    def _listing(self) -> dict[str, str]:
        """The path of each photograph directly in the folder or in a class folder, by join key."""
        names: list[str] = []
        if os.path.isdir(self.folder):
            for entry in os.scandir(self.folder):
                if class_of_path(f"{entry.name}/_") is not None and entry.is_dir():
                    names += [f"{entry.name}/{name}" for name in os.listdir(entry.path)]
                else:
                    names.append(entry.name)
        images = sorted(name for name in names if name.lower().endswith(IMAGE_EXTENSIONS))
        return {join_key(image_id_of(name)): name for name in images}


def _path_in(file_name: str, image_id: str, label: int | None, form: int, extension: str) -> str:
    return path_candidates(file_name, image_id, label)[form] + (extension or PurePosixPath(file_name).suffix)
