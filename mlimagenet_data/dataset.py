"""`MultiLabelImageNet`: ImageNet's images with labels of each crop's visible content."""

from __future__ import annotations

import contextlib
import copy
import html
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import VisionDataset
from torchvision.datasets.vision import StandardTransform

from mlimagenet_data.annotations.columns import Column
from mlimagenet_data.annotations.locate import ImageLocator, open_copy, split_folder
from mlimagenet_data.annotations.records import UNANNOTATED, Record
from mlimagenet_data.annotations.shards import Source, find_annotations
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import class_of_folder, imagenet_classes
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, ImageError, MLImageNetError
from mlimagenet_data.files.printing import printable
from mlimagenet_data.images import is_image_name, load_image
from mlimagenet_data.labelling.batched import batch_targets
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.sample import BuildsSamples, SampleBuilder, Target, Untrackable
from mlimagenet_data.names import image_id_of
from mlimagenet_data.views.view import View

__all__ = ["MultiLabelImageNet"]

Missing = Literal["error", "skip", "single_label"]
_SHOWN = 3  # images in a notebook
_FIXED = ("root", "split", "missing", "store", "image_folder")


class MultiLabelImageNet(BuildsSamples, VisionDataset):  # type: ignore[misc]
    """ImageNet, or any relabelled image folder, with targets recomputed for each transformed image.

    Args:
        root: The ImageNet folder (with `train/`, `val/`), or the split folder itself.
        transform: An image transform of torchvision v2 or v1 or timm, or a function that uses only Pillow's methods;
            see `mlimagenet_data.views.follow.follow`.
        split: The split's name in the annotations, and its folder in `root`.
        annotations: The built dataset's folder, `hf:USER/NAME[@REVISION]`, or Parquet files; see `find_annotations` for
            the defaults.
        target_transform: Called with each target.
        transforms: Called with (image, target) after labelling, in place of `transform` and `target_transform`. It
            receives the target of the whole image; its geometry is not followed, since it handles both.
        policy: Rules that decide which classes count as present in a view.
        target: The kind of target. With K = 1000 classes, all but the last three are float32 [K]:
            `multi_hot`: 1 for each class present in the view.
            `soft`: the class's score there instead of 1.
            `ignore`: like `multi_hot`, with -1 for classes whose presence is undecided.
            `pooled`: a distribution, the visible regions' predictions weighted by visible area.
            `single`: the original label as an int, as in torchvision's ImageNet; -1 for none.
            `regions`: a dict with the regions' masks (tv_tensors.Mask, [R, H, W] of the output), boxes
            (tv_tensors.BoundingBoxes, XYXY), labels, scores, visibility, coverage, and the multi-hot target.
            `view`: an `AnnotatedView`, for `mlimagenet_data.mixing.RegionCutMix` and custom label rules.
        loader: Called with a path, returns an image; must apply the EXIF orientation, as the default does. With one of your
            own, as for an archive, the paths need not exist.
        missing: Handling of images without a file and files without annotations. `error`: accessing an image without a
            file raises, and files without annotations are left out. `skip`: images without a file are left out (checks
            every file once, here). `single_label`: files without annotations are included, with their class folder as
            the only label in every view (lists the folder once, here); files that were unusable when annotated are not.
        untrackable: Response to a transform that cannot be followed: `error` raises; `whole` warns once and returns the
            whole image's labels.

    Attributes:
        classes: Names of the classes.
        wnids: WordNet ids of the classes.
        class_to_idx: Class index of each WordNet id.
        samples: (path, original label) of each image, -1 for no original label; read-only.
        targets: The original labels, -1 for none; read-only.

    `transform`, `target_transform`, `transforms`, `policy`, `target`, `loader` and `untrackable` may be set later, and act
    as if they had been given here; the other arguments cannot be changed. Rows whose image was unreadable when annotated
    are left out; `repr` counts them.

    Raises:
        AnnotationsNotFoundError: If no annotations are found.
        AnnotationError: If the annotations are damaged, or with `missing="skip"` no annotated image has a file.
        ImageError: If `root` is not a folder, or holds none of the annotated images.
        TypeError: If an argument is of a wrong kind.
        UntrackableTransformError: If a part of the transform cannot be followed.
        ValueError: If `target`, `missing` or `untrackable` is unknown, or `transforms` is given with another transform.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[..., Any] | None = None,
        *,
        split: str = "train",
        annotations: Source | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        policy: LabelPolicy | None = None,
        target: Target = "multi_hot",
        loader: Callable[[str], Image.Image] = load_image,
        missing: Missing = "error",
        untrackable: Untrackable = "error",
    ) -> None:
        if missing not in get_args(Missing):
            raise ValueError(f"missing must be one of {', '.join(get_args(Missing))}, got {missing!r}")
        if not os.path.isdir(root):
            raise ImageError(f"root: {os.fspath(root)} is not a folder", status="missing")
        self._joint: Callable[[Any, Any], tuple[Any, Any]] | None = None
        self._builder = SampleBuilder(None, LabelPolicy() if policy is None else policy, target, untrackable)
        super().__init__(os.fspath(root), transforms, transform, target_transform)
        self.split, self.loader, self.missing = split, loader, missing
        self.store = AnnotationStore(find_annotations(root, annotations), split)
        self.image_folder = str(split_folder(root, split))
        is_checked = loader is load_image and missing != "single_label"  # another may read an archive
        self._locator = open_copy(root, self.store) if is_checked else ImageLocator(self.image_folder, self.store)
        self._rows: Sequence[int] | NDArray[np.int64] = self._usable_rows()
        self._others = self._unannotated() if missing == "single_label" else []
        if missing != "single_label":
            self._warn_of_unannotated()

    @property
    def transform(self) -> Callable[..., Any] | None:
        """The transform, whose geometry is followed."""
        return self._builder.transform

    @transform.setter
    def transform(self, transform: Callable[..., Any] | None) -> None:
        if transform is not None and self._joint is not None:
            raise ValueError("transforms is set, and takes the place of transform; set transforms to None first")
        self._builder.set_transform(transform)

    @property
    def loader(self) -> Callable[[str], Image.Image]:
        """Reads an image from its path."""
        return self._loader

    @loader.setter
    def loader(self, loader: Callable[[str], Image.Image]) -> None:
        if not callable(loader):
            raise TypeError(f"loader must be a function of a path, got a {type(loader).__name__}")
        self._loader = loader

    @property
    def transforms(self) -> Callable[[Any, Any], tuple[Any, Any]] | None:
        """The function of (image, target) that is called after labelling; torchvision's form of both others without one."""
        if self._joint is None and (self.transform is not None or self.target_transform is not None):
            return StandardTransform(self.transform, self.target_transform)  # type: ignore[no-any-return]
        return self._joint

    @transforms.setter
    def transforms(self, transforms: Callable[[Any, Any], tuple[Any, Any]] | None) -> None:
        if isinstance(transforms, StandardTransform):
            self._joint = None
            self.transform, self.target_transform = transforms.transform, transforms.target_transform
        elif transforms is not None and (self.transform is not None or self.target_transform is not None):
            raise ValueError("transforms takes the place of transform and target_transform; set them to None first")
        else:
            self._joint = transforms

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to change what the rows and files were found by."""
        if (name in _FIXED and name in self.__dict__) or name in ("targets", "samples", "imgs"):
            raise AttributeError(
                f"{name} cannot be changed; make another dataset, or select images with torch.utils.data.Subset"
            )
        super().__setattr__(name, value)

    def _warn_of_unannotated(self) -> None:
        """Warn if most of a few files looked at have no annotations, as when these are another dataset's."""
        unknown, looked_at = self._locator.sample_unannotated()
        if 2 * len(unknown) > looked_at:
            warnings.warn(
                f"{self.image_folder}: {len(unknown)} of {looked_at} image files looked at have no annotations, such as "
                f"{printable(unknown[0])}; {self.store} is of other images, or of few of these. `mlimagenet join` lists them; "
                'missing="single_label" includes them',
                stacklevel=3,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Drop the row numbers and the locator, so that a dataset pickles to a few hundred bytes."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_rows", "_locator")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find the rows and file names again."""
        self.__dict__.update(state)
        self._builder = copy.copy(self._builder)  # copy.copy of a dataset passes on the same builder
        self._locator = ImageLocator(self.image_folder, self.store)
        self._rows = self._usable_rows()

    def _usable_rows(self) -> Sequence[int] | NDArray[np.int64]:
        rows = self.store.usable_rows()
        if self.missing == "skip":
            exist = [os.path.exists(os.path.join(self.image_folder, self._locator.row_name(int(row)))) for row in rows]
            if exist and not any(exist):
                raise AnnotationError(
                    f"{self.image_folder}: holds none of the {len(rows)} annotated images of split {self.split}; root must be "
                    "the folder of a copy of these images"
                )
            rows = rows[np.array(exist, np.bool_)]
        return range(len(rows)) if len(rows) == len(self.store) else rows

    def _unannotated(self) -> list[tuple[str, int]]:
        """Return (file name, class) of images in class folders that have no row; a row may say that a file is unusable."""
        if not os.path.isdir(self.image_folder):
            raise AnnotationsNotFoundError(f"{self.image_folder}: no such folder; its files cannot be listed")
        known = {self._locator.row_name(row) for row in range(len(self.store))}
        out = []
        for folder in sorted(os.scandir(self.image_folder), key=lambda entry: entry.name):
            label = class_of_folder(folder.name) if folder.is_dir() else None
            if label is None:
                continue
            names = [f"{folder.name}/{name}" for name in sorted(os.listdir(folder.path))]
            out += [(name, label) for name in names if is_image_name(name) and name not in known]
        return out

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes."""
        return list(imagenet_classes().names)

    @property
    def wnids(self) -> list[str]:
        """Return the WordNet ids of the classes."""
        return list(imagenet_classes().wnids)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Return the class index of each WordNet id."""
        return dict(imagenet_classes().wnid_to_index)

    @property
    def targets(self) -> Column[int]:
        """The original labels, -1 for none."""
        original, known = self.store.original_labels(), len(self._rows)

        def everything() -> list[int]:
            return [*original[self._rows].tolist(), *(label for _, label in self._others)]

        def label(index: int) -> int:
            return int(original[self._rows[index]]) if index < known else self._others[index - known][1]

        return Column(len(self), label, everything)

    @property
    def samples(self) -> Column[tuple[str, int]]:
        """(path, original label) of each image."""
        targets = self.targets
        return Column(len(self), lambda index: (self.path(index), targets[index]))

    def __len__(self) -> int:
        return len(self._rows) + len(self._others)

    def path(self, index: int) -> str:
        """Return the path of an image; raise IndexError if it does not exist."""
        index = range(len(self))[index]
        other = index - len(self._rows)
        name = self._locator.row_name(int(self._rows[index])) if other < 0 else self._others[other][0]
        return os.path.join(self.image_folder, name)

    def record(self, index: int) -> Record:
        """Return the annotations of an image; raise IndexError if it does not exist."""
        if not 0 <= index < len(self._rows):
            index = range(len(self))[index]
        if index < len(self._rows):
            return self.store.record(int(self._rows[index]))
        name, label = self._others[index - len(self._rows)]
        image_id = image_id_of(name)
        return Record(image_id, name, label, None, ((label, 1.0),), (), (), (), (), (), UNANNOTATED)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the transformed image and the target of its view.

        Raises:
            IndexError: If the image does not exist.
            ImageError: If the file is missing or unreadable.
            AnnotationError: If the image's size differs from the annotated size.
            UntrackableTransformError: If an operation of the transform cannot be followed.
        """
        self._builder.check_callers()
        record = self.record(index)
        output, view = self._load_view(record)
        target = self._builder.make_target(record, view)
        if self.target_transform is not None:
            target = self.target_transform(target)
        elif self._joint is not None:
            output, target = self._joint(output, target)
        return output, target

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return the samples of a DataLoader batch, identical to fetching them one by one.

        All annotations are read first and all targets are computed last. Interleaved with image loading, both would
        take twice as long, because pixels evict their data from the processor's caches.
        """
        changed = type(self).__getitem__ is not MultiLabelImageNet.__getitem__
        if changed or self.target_transform is not None or self._joint is not None:
            return [self[index] for index in indices]  # these may draw random numbers between images
        self._builder.check_callers()
        records = [self.record(index) for index in indices]
        seen = [self._load_view(record) for record in records]
        make_target = self._builder.make_target
        return [(output, make_target(record, view)) for record, (output, view) in zip(records, seen, strict=True)]

    def _load_view(self, record: Record) -> tuple[Any, View]:
        """Return the transformed image and its view."""
        path = self._locator.path(record)
        image = self._load(path)
        try:
            return self._builder.apply_transform(record, image)
        except AnnotationError as error:
            raise AnnotationError(f"{path}: {error}") from error

    def _load(self, path: str) -> Image.Image:
        image = self._loader(path)
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"loader must return a PIL image, got a {type(image).__name__} for {path}; convert it with "
                "torchvision.transforms.v2.functional.to_pil_image, or decode to tensors in the transform"
            )
        return image

    def labels_for(self, index: int, box: tuple[float, float, float, float]) -> Any:
        """Return the target of a crop, without reading the image.

        Args:
            index: Position of the image.
            box: (top, left, height, width) in pixels of the upright image, as returned by torchvision's
                `RandomResizedCrop.get_params`. It may extend outside the image.

        Returns:
            A target of the dataset's kind; see `target` of the class.

        Raises:
            IndexError: If the image does not exist.
            AnnotationError: If the annotations lack the image's size.
            ValueError: If the box's height or width is not positive.
        """
        return self._builder.make_target_of_box(self.record(index), box)

    def batch_labels_for(self, indices: Sequence[int], boxes: torch.Tensor) -> torch.Tensor:
        """Return the targets of a batch of crops, one per image: (B, 1000) float32 on the boxes' device.

        Args:
            indices: B positions.
            boxes: (B, 4), (top, left, height, width) in pixels.

        Raises:
            IndexError: If an image does not exist or has no annotations (`missing="single_label"`).
            AnnotationError: If the annotations lack an image's size.
            ValueError: If the target is not a vector, or the boxes have another shape or a size that is not positive.
        """
        # negative indices count from the end of all images, those without annotations included
        places = range(len(self))
        rows = [int(self._rows[places[index]]) for index in indices]
        return batch_targets(self.store, rows, boxes, self.policy, self.target)

    def show(self, index: int) -> Image.Image:
        """Return a picture of an image with its regions and labels, as annotated, for notebooks; raise as `self[index]` does."""
        from mlimagenet_data.annotations.sheet import draw_card

        record = self.record(index)
        return draw_card(self._load(self.path(index)).convert("RGB"), record)

    def _repr_html_(self) -> str:
        """Return the dataset's description and its first images, for notebooks."""
        from mlimagenet_data.annotations.sheet import as_html

        pictures = []
        for index in range(min(len(self), _SHOWN)):
            with contextlib.suppress(MLImageNetError):
                pictures.append(self.show(index))
        return f"<pre>{html.escape(repr(self))}</pre>" + "".join(map(as_html, pictures))

    def extra_repr(self) -> str:
        """Return the annotations' source, the kind of target and the number of rows left out."""
        left_out = len(self.store) - len(self._rows)
        lines = [
            f"Split: {self.split}",
            f"Annotations: {self.store.source}",
            f"Target: {self.target}",
            f"{self.policy}",
        ]
        return "\n".join([*lines, f"Left out, no readable image: {left_out}"] if left_out else lines)
