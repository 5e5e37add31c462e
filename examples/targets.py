"""The datasets of train.py: ImageNet with the targets of each loss, and COCO and VOC for transfer."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recipe import LABEL_LOSSES, VIEW_LOSSES
from torch.utils.data import Dataset
from torchvision.datasets import CocoDetection, VOCDetection
from torchvision.transforms import v2

from mlimagenet_data import LabelPolicy, MultiLabelImageNet
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.labelling.sample import AnnotatedView
from mlimagenet_data.labelling.targets import label_view, multi_hot, pooled, soft, with_ignore
from mlimagenet_data.views.grids import edges_of

__all__ = ["VOC_CLASSES", "make_dataset", "make_transforms"]

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def make_transforms(
    size: int, augment: str, mean: Sequence[float], std: Sequence[float], *, whole: bool = False
) -> tuple[v2.Compose, v2.Compose]:
    """Return the training and evaluation transforms; evaluation crops the centre or squeezes the `whole` image."""
    three = [v2.RandomGrayscale(1.0), v2.RandomSolarize(128, 1.0), v2.GaussianBlur(5, (0.1, 2.0))]
    more = {
        "none": [],
        "rand": [v2.RandAugment()],
        "three": [v2.RandomChoice(three), v2.ColorJitter(0.3, 0.3, 0.3)],
    }[augment]
    last = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    train = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *more, *last])
    shown = [v2.Resize((size, size))] if whole else [v2.Resize(size * 8 // 7), v2.CenterCrop(size)]
    return train, v2.Compose([*shown, *last])


def make_dataset(args: argparse.Namespace, transform: Callable[..., Any], split: str, *, train: bool) -> Dataset:
    """Return a dataset of (image, {"target": ..., further inputs of the loss}) with class names in `classes`."""
    if args.dataset == "coco":
        return coco(args.root, split, transform)
    if args.dataset != "imagenet":
        return voc(args.root, args.dataset[3:], split, transform)
    original = "as_others" if args.original == "always" else args.original
    policy = LabelPolicy(original=original, label_score=args.label_score)
    images = MultiLabelImageNet(
        args.root, transform, split=split, annotations=args.annotations, target="view", policy=policy
    )
    if not train:
        return Viewed(images, TargetOf("bce", "crop", images.policy))
    always = args.original == "always"
    return Viewed(images, TargetOf(args.loss, args.labels, images.policy, args.targets, always, args.byproducts))


class Viewed(Dataset):
    """ImageNet with targets computed from views.

    Args:
        images: A dataset with target="view".
        target_of: Computes an image's targets from its view and its index.
    """

    def __init__(self, images: MultiLabelImageNet, target_of: TargetOf) -> None:
        self.images, self.target_of, self.classes = images, target_of, images.classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        """Return an image and its targets."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, dict[str, Any]]]:
        """Return several items in one call, as DataLoader requests them."""
        found = self.images.__getitems__(indices)
        return [(image, self.target_of(seen, index)) for index, (image, seen) in zip(indices, found, strict=True)]


@dataclass(frozen=True)
class TargetOf:
    """Computes the targets that a loss needs; see `recipe.LOSSES`.

    Attributes:
        loss: Name of the loss.
        labels: `crop`, `image` or `single`.
        policy: Decides which classes are present.
        targets: `ignore`, `hard` or `soft`.
        always: Whether the original label is 1 in every view.
        byproducts: Folder of ImageNet-AB, for the loss `byproducts`.
    """

    loss: str
    labels: str
    policy: LabelPolicy
    targets: str = "ignore"
    always: bool = False
    byproducts: Path | None = None

    def __call__(self, seen: AnnotatedView, row: int) -> dict[str, Any]:
        """Return `target`, (K,) float or the label; for some losses `row`, the crop's `edges`, the clicked `point`."""
        label = -1 if seen.record.label is None else seen.record.label
        out: dict[str, Any] = {"target": label if self.loss in LABEL_LOSSES else self.vector(seen, label)}
        if self.loss in ("consistency", "spatial"):
            out["row"] = row
        if self.loss in VIEW_LOSSES:
            out["edges"] = torch.tensor(edges_of(seen.view))
        if self.byproducts is not None:
            out["point"] = torch.tensor(first_click(self.byproducts, seen.record.image_id))
        return out

    def vector(self, seen: AnnotatedView, label: int) -> torch.Tensor:
        """Return the (K,) target: -1 for undecided classes; a distribution for the softmax."""
        if self.labels == "single":
            vector = torch.zeros(NUM_CLASSES)
        else:
            shown = label_view(seen.record, self.policy, seen.view if self.labels == "crop" else None)
            make = {"ignore": with_ignore, "hard": multi_hot, "soft": soft}[self.targets]
            vector = torch.from_numpy((pooled if self.loss == "softmax" else make)(shown))
        if label >= 0 and (self.labels == "single" or self.always):
            vector[label] = 1.0
        return vector


def first_click(folder: Path, image_id: str) -> tuple[float, float]:
    """Return (x, y) of the first click on an image, NaN without one; the checkout's pipeline reads the file."""
    checkout = str(Path(__file__).parent.parent)
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    from build.images.clicks import ByproductError, read_clicks

    try:
        clicks = read_clicks(folder, image_id)
    except ByproductError as error:
        if error.status != "missing":
            raise
        clicks = []
    return clicks[0] if clicks else (float("nan"), float("nan"))


class Classified(Dataset):
    """A detection dataset as a multi-label dataset with labels of whole images.

    Args:
        images: Dataset of (image, annotation).
        classes: Names of the classes.
        vector: Converts an annotation to (K,): 1 present, 0 absent, -1 undecided.
        transform: Transform of the images.
    """

    def __init__(
        self,
        images: Dataset,
        classes: Sequence[str],
        vector: Callable[[Any], torch.Tensor],
        transform: Callable[..., Any],
    ) -> None:
        self.images, self.classes, self.vector, self.transform = images, list(classes), vector, transform

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        """Return an image and its classes."""
        image, annotation = self.images[index]
        return self.transform(image), {"target": self.vector(annotation)}


def coco(root: str, split: str, transform: Callable[..., Any]) -> Classified:
    """Return COCO 2017's `train` or `val`, from root/{split}2017 and root/annotations.

    A class is present if any object has it, a crowd included.
    """
    file = Path(root) / "annotations" / f"instances_{split}2017.json"
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        images = CocoDetection(str(Path(root) / f"{split}2017"), str(file))
    categories = sorted(images.coco.cats)
    place = {category: k for k, category in enumerate(categories)}

    def vector(objects: list[dict[str, Any]]) -> torch.Tensor:
        out = torch.zeros(len(place))
        out[[place[item["category_id"]] for item in objects]] = 1.0
        return out

    return Classified(images, [images.coco.cats[c]["name"] for c in categories], vector, transform)


def voc(root: str, year: str, split: str, transform: Callable[..., Any]) -> Classified:
    """Return an image set of VOC in root/VOCdevkit/VOC{year}: trainval or test in 2007, train or val in 2012.

    A class whose objects are all marked as difficult is undecided, as in VOC's own evaluation.
    """

    def vector(annotation: dict[str, Any]) -> torch.Tensor:
        out = torch.zeros(len(VOC_CLASSES))
        for item in annotation["annotation"]["object"]:
            k = VOC_CLASSES.index(item["name"])
            if item["difficult"] == "0":
                out[k] = 1.0
            elif out[k] == 0:
                out[k] = -1.0
        return out

    if not (folder := Path(root) / "VOCdevkit" / f"VOC{year}").is_dir():
        raise SystemExit(f"{folder}: no such folder; it must hold JPEGImages, Annotations and ImageSets of VOC {year}")
    return Classified(VOCDetection(root, year, split), VOC_CLASSES, vector, transform)
