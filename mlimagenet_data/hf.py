"""Labels for images from the Hugging Face Hub: `with_labels` joins an image dataset with annotations.

A row is matched by its image's file name, which is the `path` of the undecoded image column, or by a column of your
own. `mlimagenet_data.names` converts it to an image_id, so the Hub's `ILSVRC/imagenet-1k` and WebDataset copies work
unchanged. If the name does not identify a class, the row's integer `label` is used, if present.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch

from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.shards import Source
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError, MLImageNetError
from mlimagenet_data.images import load_image
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.sample import SampleBuilder, Target, Untrackable
from mlimagenet_data.names import image_id_of, without_root

__all__ = ["LabelledImages", "LabelledIterable", "with_labels"]


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
        key: How a row is matched. None: by the image's own file name. A string: by that text column. A function: takes
            a row (with the image undecoded, `{"bytes", "path"}`) and returns an image_id.
        untrackable: As for `MultiLabelImageNet`.

    Returns:
        A torch dataset of (image, target): map-style for a `Dataset`, iterable for an `IterableDataset`. Reading a
        row raises AnnotationError if it has no annotations, or if its image could not be read when annotated.

    Raises:
        ValueError: If the image column does not exist, or `target` or `untrackable` is invalid.
        AnnotationsNotFoundError: If the annotations do not exist.
        UntrackableTransformError: If a part of the transform cannot be followed.
    """
    from datasets import Dataset
    from datasets import Image as ImageFeature

    if images.column_names is not None and image_column not in images.column_names:
        raise ValueError(
            f"image_column: {image_column!r} does not exist; the columns are {', '.join(images.column_names)}"
        )
    raw = images.cast_column(image_column, ImageFeature(decode=False))
    joiner = _Joiner(AnnotationStore(annotations, split), SampleBuilder(transform, policy or LabelPolicy(), target, untrackable),
                     image_column, key)  # fmt: skip
    return LabelledImages(raw, joiner) if isinstance(images, Dataset) else LabelledIterable(raw, joiner)


class _Joiner:
    """Converts a row to (image, target)."""

    def __init__(
        self,
        store: AnnotationStore,
        builder: SampleBuilder,
        column: str,
        key: str | Callable[[dict[str, Any]], str] | None,
    ) -> None:
        self.store, self.builder, self.column, self.key = store, builder, column, key

    def __call__(self, row: dict[str, Any]) -> tuple[Any, Any]:
        image_id = self.image_id(row)
        try:
            record = self.store.record(self.store.find(image_id))
        except KeyError:
            raise AnnotationError(f"image {image_id}: no annotations in {self.store}") from None
        if record.status not in USABLE_STATUSES:
            raise AnnotationError(f"image {image_id}: its status is {record.status}, so it has no labels")
        value = row[self.column]
        source = io.BytesIO(value["bytes"]) if value.get("bytes") is not None else value["path"]
        try:
            return self.builder(record, load_image(source))
        except MLImageNetError as error:
            raise AnnotationError(f"image {image_id}: {error}") from error

    def image_id(self, row: dict[str, Any]) -> str:
        if callable(self.key):
            return self.key(row)
        name = row[self.key] if self.key is not None else row[self.column]["path"]
        if not name:
            raise AnnotationError("a row's image has no file name; pass key= to match rows by something else")
        label = row.get("label")
        known = type(label) is int and 0 <= label < NUM_CLASSES
        return image_id_of(without_root(str(name)), label if known else None)


class LabelledImages(torch.utils.data.Dataset[tuple[Any, Any]]):
    """A map-style dataset of (image, target); made by `with_labels`."""

    def __init__(self, images: Any, joiner: _Joiner) -> None:
        self.images, self._join = images, joiner

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._join(self.images[index])


class LabelledIterable(torch.utils.data.IterableDataset[tuple[Any, Any]]):
    """A streaming dataset of (image, target); made by `with_labels`. `datasets` splits its shards among workers."""

    def __init__(self, images: Any, joiner: _Joiner) -> None:
        self.images, self._join = images, joiner

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for row in self.images:
            yield self._join(row)
