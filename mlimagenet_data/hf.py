"""Labels for images from the Hugging Face Hub: `with_labels` joins an image dataset with annotations.

A row is matched by its image's file name, which is the `path` of the undecoded image column, or by a column of your
own. `mlimagenet_data.names` converts it to an image_id, so the Hub's `ILSVRC/imagenet-1k` and WebDataset copies work
unchanged. If the name does not identify a class, the row's integer `label` is used, if present.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import torch
from PIL import Image

from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.shards import Source
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError, MLImageNetError
from mlimagenet_data.images import load_image
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.random_states import RandomStates
from mlimagenet_data.labelling.sample import BuildsSamples, SampleBuilder, Target, Untrackable
from mlimagenet_data.names import image_id_of, without_root

__all__ = ["BadRows", "LabelledImages", "LabelledIterable", "with_labels"]

BadRows = Literal["error", "skip"]
_READ_AHEAD = 16  # rows


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
    bad_rows: BadRows = "error",
) -> LabelledImages | LabelledIterable:
    """Join a Hugging Face image dataset with annotations.

    Args:
        images: A `datasets.Dataset`, or an `IterableDataset` (streaming), with an image column. Steps before this one may
            select and shuffle. Those that decode images (`map`; of a stream also `filter`, `rename_column` and
            `remove_columns`) lose their file names, so they need `key`, or come after
            `images.cast_column("image", datasets.Image(decode=False))`.
        annotations: The annotations; see `AnnotationStore`.
        split: The annotations' split.
        transform: As for `MultiLabelImageNet`.
        policy: As for `MultiLabelImageNet`.
        target: As for `MultiLabelImageNet`.
        image_column: The column of images.
        key: How a row is matched. None: by the image's own file name. A string: by that text column. A function: takes
            a row (with the image undecoded, `{"bytes", "path"}`) and returns an image_id.
        untrackable: As for `MultiLabelImageNet`.
        bad_rows: Response to a row of a stream that has no annotations or no readable image: `error` raises; `skip` leaves
            it out and warns at the end of each pass, with the number and the first reason. An error of the stream itself,
            as of a damaged file, is always raised: its later rows are lost.

    Returns:
        A torch dataset of (image, target): map-style for a `Dataset`, iterable for an `IterableDataset`. Reading a
        row raises AnnotationError if it has no annotations, or if its image could not be read when annotated.

    Raises:
        TypeError: If `images` is not a dataset of `datasets`, or is a dict of splits.
        ValueError: If the image column does not exist or holds no images, if `images` has a transform of its own, or if
            `target`, `untrackable` or `bad_rows` is invalid.
        AnnotationsNotFoundError: If the annotations do not exist.
        UntrackableTransformError: If a part of the transform cannot be followed.
    """
    if bad_rows not in get_args(BadRows):
        raise ValueError(f"bad_rows must be one of {', '.join(get_args(BadRows))}, got {bad_rows!r}")
    raw, is_stream = _undecoded(images, image_column)
    builder = SampleBuilder(transform, LabelPolicy() if policy is None else policy, target, untrackable)
    joiner = _Joiner(
        AnnotationStore(annotations, split), builder, image_column, key, labels_count=_has_imagenets_labels(raw)
    )
    if is_stream:
        return LabelledIterable(raw, joiner, bad_rows)
    if bad_rows == "skip":
        raise ValueError("bad_rows='skip' is for streams; remove such rows of a Dataset with its filter() before")
    return LabelledImages(raw, joiner)


def _undecoded(images: Any, column: str) -> tuple[Any, bool]:
    """Return a dataset whose images are not decoded, and whether it is a stream."""
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
    from datasets import Image as ImageFeature

    if isinstance(images, DatasetDict | IterableDatasetDict):
        raise TypeError(
            f"images is a dict of splits; pass one of them, such as images[{next(iter(images), 'train')!r}]"
        )
    if not isinstance(images, Dataset | IterableDataset):
        raise TypeError(f"images must be a Dataset or IterableDataset of `datasets`, got a {type(images).__name__}")
    is_stream = isinstance(images, IterableDataset)
    if images.column_names is not None and column not in images.column_names:
        raise ValueError(f"image_column: {column!r} does not exist; the columns are {', '.join(images.column_names)}")
    if not is_stream and images.format["type"] == "custom":
        raise ValueError("images has a transform of its own (with_transform); pass it as with_labels(transform=...)")
    images = images.with_format(None)  # torch or NumPy: rows as tensors
    if images.features is None:  # after map, whose results have unknown types
        return images, is_stream
    if not isinstance(images.features[column], ImageFeature):
        raise ValueError(f"image_column: {column!r} holds {images.features[column]}, not images")
    return images.cast_column(column, ImageFeature(decode=False)), is_stream


def _has_imagenets_labels(images: Any) -> bool:
    """Return whether the column `label` may hold ImageNet's class indices: not if it names another number of classes."""
    kind = (images.features or {}).get("label")
    return getattr(kind, "num_classes", None) in (None, NUM_CLASSES)


class _Joiner:
    """Converts a row to (image, target)."""

    def __init__(
        self,
        store: AnnotationStore,
        builder: SampleBuilder,
        column: str,
        key: str | Callable[[dict[str, Any]], str] | None,
        labels_count: bool,
    ) -> None:
        self.store, self.builder, self.column, self.key = store, builder, column, key
        self.labels_count = labels_count

    def __call__(self, row: dict[str, Any]) -> tuple[Any, Any]:
        self.builder.check_callers()
        image_id = self.image_id(row)
        try:
            record = self.store.record(self.store.find(image_id))
        except KeyError:
            raise AnnotationError(f"image {image_id}: no annotations in {self.store}") from None
        if record.status not in USABLE_STATUSES:
            raise AnnotationError(f"image {image_id}: its status is {record.status}, so it has no labels")
        try:
            return self.builder(record, self._image(row[self.column]))
        except MLImageNetError as error:
            raise AnnotationError(f"image {image_id}: {error}") from error

    @staticmethod
    def _image(value: Any) -> Image.Image:
        if isinstance(value, Image.Image):  # decoded and turned upright by an earlier step
            return value.convert("RGB")
        return load_image(io.BytesIO(value["bytes"]) if value.get("bytes") is not None else value["path"])

    def image_id(self, row: dict[str, Any]) -> str:
        if callable(self.key):
            return self.key(row)
        name = row[self.key] if self.key is not None else self._file_name(row)
        if not name:
            raise AnnotationError(
                "a row's image has no file name; pass key= to match rows by something else. rename_column, remove_columns and "
                f"map of a stream lose it: call with_labels first, or images.cast_column({self.column!r}, "
                "datasets.Image(decode=False)) before them"
            )
        label = row.get("label")
        known = self.labels_count and type(label) is int and 0 <= label < NUM_CLASSES
        return image_id_of(without_root(str(name)), label if known else None)

    def _file_name(self, row: dict[str, Any]) -> str | None:
        if self.column not in row:
            raise AnnotationError(f"a row has no column {self.column!r}, only {', '.join(row)}; pass image_column=")
        value = row[self.column]
        if isinstance(value, dict):
            path: str | None = value.get("path")
            return path
        raise AnnotationError(
            f"a row's image is a {type(value).__name__}: an earlier step (map, or filter of a stream) decoded it, which loses "
            f"its file name. Call with_labels first, or images.cast_column({self.column!r}, datasets.Image(decode=False)) "
            "before that step, or pass key="
        )

    def __repr__(self) -> str:
        builder = self.builder
        return f"annotations={self.store}, target={builder.target!r}, policy={builder.policy}, transform={builder.transform}"


class LabelledImages(BuildsSamples, torch.utils.data.Dataset[tuple[Any, Any]]):
    """A map-style dataset of (image, target); made by `with_labels`."""

    def __init__(self, images: Any, joiner: _Joiner) -> None:
        self.images, self._join, self._builder = images, joiner, joiner.builder

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._join(self.images[index])

    def __repr__(self) -> str:
        return f"LabelledImages(rows={len(self)}, {self._join})"


def _alike(items: Iterator[Any], seed: int) -> Iterator[Any]:
    """Yield items that depend on the global random generators alike in each process with the same seed."""
    inside = RandomStates.seeded(seed)
    while True:
        outside = RandomStates.now()
        inside.restore()
        try:
            item = next(items, None)
        finally:
            inside = RandomStates.now()
            outside.restore()
        if item is None:
            return
        yield item


class LabelledIterable(BuildsSamples, torch.utils.data.IterableDataset[tuple[Any, Any]]):
    """A streaming dataset of (image, target); made by `with_labels`.

    Each worker of a DataLoader gets rows, and each row once: whole shards if their number is a multiple of the workers',
    else each takes its turn, and all of them read the whole stream. A generator that draws an order of its own must draw
    it from a seed or from the global generators of Python, NumPy or PyTorch, which then give all workers the same numbers.
    """

    def __init__(self, images: Any, joiner: _Joiner, bad_rows: BadRows = "error") -> None:
        self.images, self._join, self._builder, self._bad_rows = images, joiner, joiner.builder, bad_rows

    def set_epoch(self, epoch: int) -> None:
        """Shuffle in another order, as `datasets` does: for each epoch, if the stream was shuffled."""
        self.images.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        skipped, first = 0, ""
        for row in self._rows():
            try:
                sample = self._join(row)
            except MLImageNetError as error:
                if self._bad_rows == "error":
                    raise
                skipped, first = skipped + 1, first or str(error)
                continue
            yield sample
        if skipped:
            warnings.warn(f"{skipped} rows were left out; the first: {first}", stacklevel=2)

    def _rows(self) -> Iterator[dict[str, Any]]:
        worker = torch.utils.data.get_worker_info()
        if worker is None or self._shards() % worker.num_workers == 0:
            yield from self.images
            return
        # all workers read all rows; `datasets` would let some of them idle
        batches = _alike(self.images.iter(batch_size=_READ_AHEAD), worker.seed - worker.id)
        rows = (
            dict(zip(batch, values, strict=True)) for batch in batches for values in zip(*batch.values(), strict=True)
        )
        yield from itertools.islice(rows, worker.id, None, worker.num_workers)

    def _shards(self) -> int:
        """Return the number of shards that this process's workers share."""
        shards = int(getattr(self.images, "num_shards", 0) or self.images.n_shards)
        node = getattr(self.images, "_distributed", None)  # of split_dataset_by_node
        return shards // node.world_size if node is not None and shards % node.world_size == 0 else shards

    def __repr__(self) -> str:
        return f"LabelledIterable(shards={self._shards()}, bad_rows={self._bad_rows!r}, {self._join})"
