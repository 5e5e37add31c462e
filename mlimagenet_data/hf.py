"""Labels for images that come from the Hugging Face Hub: `with_labels` joins an image dataset with annotations.

The key of the join is the image's file name, as the `path` of the (undecoded) image column says it, or a string column. Of it
only the last part counts. The Hub's `ILSVRC/imagenet-1k` has train names like `n01440764_10026_n01440764.JPEG` and validation
names like `ILSVRC2012_val_00000293_n01440764.JPEG`; WebDataset copies have `n01440764/n01440764_10026.JPEG` or the like. All
of them become the image_id `<wnid>/<stem>`; see `image_id_of`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import torch

from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.store import AnnotationStore, Source
from mlimagenet_data.errors import AnnotationError, MLImageNetError
from mlimagenet_data.images import load_image
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.sample import Labeller, Target, Untrackable

__all__ = ["LabelledImages", "LabelledIterable", "image_id_of", "with_labels"]

_SUFFIX = re.compile(r"^(?P<stem>.+)_(?P<wnid>n\d{8})$")
_TRAIN = re.compile(r"^(?P<wnid>n\d{8})_.+$")


def image_id_of(name: str) -> str:
    """Return the image_id of a file name.

    `n01440764_10026_n01440764.JPEG`, `n01440764_10026.JPEG` and `n01440764/n01440764_10026.JPEG` are all
    `n01440764/n01440764_10026`; `ILSVRC2012_val_00000293_n01440764.JPEG` is `n01440764/ILSVRC2012_val_00000293`. Without a
    WordNet id in the file name, the folder that it lies in counts.

    Raises:
        AnnotationError: If neither names a class.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    stem = path.stem
    if match := _SUFFIX.match(stem):
        return f"{match['wnid']}/{match['stem']}"
    if match := _TRAIN.match(stem):
        return f"{match['wnid']}/{stem}"
    if path.parent.name:
        return f"{path.parent.name}/{stem}"
    raise AnnotationError(
        f"{name!r}: neither the file name nor a folder names a class; pass key= to say how rows are known"
    )


def with_labels(
    images: Any,
    annotations: Source,
    *,
    split: str = "train",
    transform: Callable[..., Any] | None = None,
    policy: LabelPolicy | None = None,
    target: Target = "multi_hot",
    image_column: str = "image",
    key: str | Callable[[dict[str, Any]], str] | None = None,
    untrackable: Untrackable = "error",
) -> LabelledImages | LabelledIterable:
    """Join a Hugging Face image dataset with annotations.

    Args:
        images: A `datasets.Dataset`, or an `IterableDataset` (streaming), with an image column.
        annotations: The annotations; see `AnnotationStore`.
        split: The annotations' split.
        transform: As for `MultiLabelImageNet`.
        policy: As for `MultiLabelImageNet`.
        target: As for `MultiLabelImageNet`.
        image_column: The column of images.
        key: How a row is known. None: by the image's own file name. A name: by that string column. A function: of a row (with
            the image undecoded, `{"bytes", "path"}`) and returns an image_id.
        untrackable: As for `MultiLabelImageNet`.

    Returns:
        A torch dataset of (image, target): map-style for a `Dataset`, iterable for an `IterableDataset`. Rows without annotations
        are errors when they are asked for (map-style), as are rows whose image could not be read when it was annotated.

    Raises:
        ValueError: If there is no such image column, or `target` or `untrackable` has another value.
        AnnotationsNotFoundError: If there are no annotations.
        UntrackableTransformError: If a part of the transform cannot be followed.
    """
    from datasets import Dataset
    from datasets import Image as ImageFeature

    if images.column_names is not None and image_column not in images.column_names:
        raise ValueError(f"image_column {image_column!r}: the dataset has the columns {', '.join(images.column_names)}")
    raw = images.cast_column(image_column, ImageFeature(decode=False))
    joiner = _Joiner(AnnotationStore(annotations, split), Labeller(transform, policy or LabelPolicy(), target, untrackable),
                     image_column, key)  # fmt: skip
    return LabelledImages(raw, joiner) if isinstance(images, Dataset) else LabelledIterable(raw, joiner)


class _Joiner:
    """Turns a row into (image, target)."""

    def __init__(
        self, store: AnnotationStore, labeller: Labeller, column: str, key: str | Callable[[dict[str, Any]], str] | None
    ) -> None:
        self.store, self.labeller, self.column, self.key = store, labeller, column, key

    def __call__(self, row: dict[str, Any]) -> tuple[Any, Any]:
        image_id = self.image_id(row)
        try:
            record = self.store.record(self.store.find(image_id))
        except KeyError:
            raise AnnotationError(f"image {image_id}: no annotations of it in {self.store}") from None
        if record.status not in USABLE_STATUSES:
            raise AnnotationError(f"image {image_id}: its status is {record.status}, so it has no labels")
        value = row[self.column]
        source = io.BytesIO(value["bytes"]) if value.get("bytes") is not None else value["path"]
        try:
            return self.labeller(record, load_image(source))
        except MLImageNetError as error:
            raise AnnotationError(f"image {image_id}: {error}") from error

    def image_id(self, row: dict[str, Any]) -> str:
        if callable(self.key):
            return self.key(row)
        name = row[self.key] if self.key is not None else row[self.column]["path"]
        if not name:
            raise AnnotationError("a row's image has no file name; pass key= to say how rows are known")
        return image_id_of(str(name))


class LabelledImages(torch.utils.data.Dataset[tuple[Any, Any]]):
    """A map-style dataset of (image, target); made by `with_labels`."""

    def __init__(self, images: Any, joiner: _Joiner) -> None:
        self.images, self._join = images, joiner

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._join(self.images[index])


class LabelledIterable(torch.utils.data.IterableDataset[tuple[Any, Any]]):
    """A streaming dataset of (image, target); made by `with_labels`. `datasets` shares its shards out among workers."""

    def __init__(self, images: Any, joiner: _Joiner) -> None:
        self.images, self._join = images, joiner

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for row in self.images:
            yield self._join(row)
