"""`MultiLabelImageNet`: ImageNet's images with the labels of what each crop shows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torchvision.datasets import VisionDataset

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, UntrackableTransformError
from mlimagenet_data.images import load_image
from mlimagenet_data.labels import LabelPolicy, class_states, multi_hot
from mlimagenet_data.schema import USABLE_STATUSES
from mlimagenet_data.store import AnnotationStore, Record
from mlimagenet_data.transforms import check_trackable, transform_with_view

__all__ = ["MultiLabelImageNet", "find_annotations"]


def find_annotations(root: str | os.PathLike[str], annotations: str | os.PathLike[str] | None = None) -> Path:
    """Return the dataset folder: `annotations`, else $MLIMAGENET_ANNOTATIONS, else <root>/mlimagenet, else ./mlimagenet.

    Raises:
        AnnotationsNotFoundError: If the named folder, or every default, does not exist.
    """
    named = annotations or os.environ.get("MLIMAGENET_ANNOTATIONS")
    candidates = [Path(named)] if named else [Path(root) / "mlimagenet", Path("mlimagenet")]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise AnnotationsNotFoundError(
        f"no annotations at {' or '.join(map(str, candidates))}. Build them with `python -m build.run --images {root} --out "
        "mlimagenet`, or download a published set, and pass its folder as annotations=... or in $MLIMAGENET_ANNOTATIONS"
    )


class MultiLabelImageNet(VisionDataset):  # type: ignore[misc]
    """ImageNet, or any relabelled image folder, with targets recomputed for what the transform's output shows.

    Args:
        root: The ImageNet folder (with `train/`, `val/`), or the split folder itself.
        transform: A torchvision v2 transform of the image. Crops, resizing, padding and flips are followed.
        split: The split's name, in the annotations and as a folder below `root`.
        annotations: The built dataset's folder; see `find_annotations` for the defaults.
        target_transform: Called with each target.
        policy: Which classes count as present in a view.
        loader: Called with a path, returns an image; must apply the EXIF orientation, as the default does.
        untrackable: `error`, or `whole`: with a transform that cannot be followed, warn once and give the whole image's labels.

    Attributes:
        classes: Names of the classes.
        wnids: Their WordNet ids.
        class_to_idx: Class index of each WordNet id.
        samples: (path, original label) of each image; -1 where there was no original label.
        targets: The original labels.

    Rows whose image could not be read when the annotations were built are left out; `repr` counts them.

    Raises:
        AnnotationsNotFoundError: If there are no annotations.
        UntrackableTransformError: If a part of the transform cannot be followed.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[..., Any] | None = None,
        *,
        split: str = "train",
        annotations: str | os.PathLike[str] | None = None,
        target_transform: Callable[[torch.Tensor], Any] | None = None,
        policy: LabelPolicy | None = None,
        loader: Callable[[str], Image.Image] = load_image,
        untrackable: Literal["error", "whole"] = "error",
    ) -> None:
        super().__init__(os.fspath(root), transform=transform, target_transform=target_transform)
        self.split = split
        self.policy = policy or LabelPolicy()
        self.loader = loader
        self.store = AnnotationStore(find_annotations(root, annotations), split)
        self._tracked = self._is_tracked(transform, untrackable)
        table = imagenet_classes()
        self.classes, self.wnids = list(table.names), list(table.wnids)
        self.class_to_idx = dict(table.wnid_to_index)
        self._rows = [row for row, status in enumerate(self.store.statuses) if status in USABLE_STATUSES]
        originals = self.store.original_labels
        self.targets = [-1 if (label := originals[row]) is None else label for row in self._rows]
        folder = Path(root) / split
        self.image_folder = folder if folder.is_dir() else Path(root)

    @staticmethod
    def _is_tracked(transform: Callable[..., Any] | None, untrackable: str) -> bool:
        if untrackable not in ("error", "whole"):
            raise ValueError(f"untrackable must be 'error' or 'whole', got {untrackable!r}")
        if transform is None:
            return True
        try:
            check_trackable(transform)
        except UntrackableTransformError as error:
            if untrackable == "error":
                raise
            warnings.warn(f"every view gets the whole image's labels: {error}", stacklevel=3)
            return False
        return True

    @property
    def samples(self) -> list[tuple[str, int]]:
        """(path, original label) of each image."""
        return [(self.path(index), label) for index, label in enumerate(self.targets)]

    def __len__(self) -> int:
        return len(self._rows)

    def path(self, index: int) -> str:
        """Return the path of an image."""
        return str(self.image_folder / self.store.file_names[self._rows[index]])

    def record(self, index: int) -> Record:
        """Return the annotations of an image."""
        return self.store.record(self._rows[index])

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return (image, target): the transformed image and the float32 [1000] multi-hot target of what it shows."""
        record = self.record(index)
        image = self.loader(self.path(index))
        if record.size != (image.height, image.width):
            raise AnnotationError(
                f"{self.path(index)}: {image.height} x {image.width} pixels, but the annotations of {record.image_id} are of "
                f"an image of {record.size}: another copy of the image, or a loader that ignores the EXIF orientation"
            )
        if self._tracked:
            output, view = transform_with_view(self.transform, image)
            states = class_states(record, self.policy, visible=view.visible, view_area=view.area)
        else:
            assert self.transform is not None
            output = self.transform(image)
            states = class_states(record, self.policy)
        target: Any = torch.from_numpy(multi_hot(states))
        return output, target if self.target_transform is None else self.target_transform(target)

    def extra_repr(self) -> str:
        """Say where the annotations are, and how many rows were left out."""
        left_out = len(self.store) - len(self)
        lines = [f"Split: {self.split}", f"Annotations: {self.store.folder}", f"Policy: {self.policy}"]
        return "\n".join([*lines, f"Left out, unreadable when annotated: {left_out}"] if left_out else lines)
