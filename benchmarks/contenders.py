"""Datasets with one interface for the label-feeding approaches that benchmarks/loader.py compares.

All but ours subclass torchvision's ImageFolder and apply the same crop, flip and conversion with the same random draws.
Rivals follow their published descriptions; open choices are made in their favour.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.ops import roi_align
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.classes import NUM_CLASSES

__all__ = ["APPROACHES", "BASE", "CONTROL", "OURS", "DenseVectors", "FullMasks", "LabelMaps", "LoaderInputs", "make"]

SIZE = 224
Crop = tuple[int, int, int, int]  # top, left, height, width in pixels, as RandomResizedCrop draws it


class LoaderInputs(NamedTuple):
    """Paths that the approaches read.

    Attributes:
        images: The ImageNet folder, or the split folder itself.
        annotations: The dataset built for these images.
        table: The same labels in the paper's text format.
        label_maps: The folder of ReLabel's files.
    """

    images: Path
    annotations: Path
    table: Path
    label_maps: Path

    @property
    def split_folder(self) -> Path:
        """The folder that holds the class folders."""
        return self.images / "train" if (self.images / "train").is_dir() else self.images


def transform() -> v2.Compose:
    """Return the transform shared by all approaches."""
    return v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()])


class DenseVectors:
    """The published loader's labels: a dict from file name to a dense vector of 1000 scores.

    Args:
        table: Text file in the format of `write_table`.
    """

    def __init__(self, table: Path) -> None:
        self.vectors: dict[str, torch.Tensor] = {}
        with table.open(encoding="utf-8") as lines:
            for line in lines:
                name, _, classes, scores = line.rstrip("\n").split("\t")
                vector = torch.zeros(NUM_CLASSES)
                if classes:
                    vector[list(map(int, classes.split(",")))] = torch.tensor(list(map(float, scores.split(","))))
                self.vectors[name] = vector

    def of(self, name: str) -> torch.Tensor:
        """Return the (1000,) scores of the whole image, whatever the crop."""
        return self.vectors[name]


class LabelMaps:
    """ReLabel's labels (Yun et al., arXiv 2101.05022, section 3): one file per image, pooled over the crop by RoIAlign.

    A file is [2, 5, 15, 15]: the top-5 logits and classes at 15 x 15 places. It is expanded to (1000, 15, 15) with
    zeros for all other classes, pooled to one place, and passed through a softmax.

    Args:
        folder: Holds `<wnid>/<stem>.pt`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = os.fspath(folder)

    def of(self, image_id: str, crop: Crop, height: int, width: int) -> torch.Tensor:
        """Return a (1000,) distribution."""
        logits, classes = torch.load(f"{self.folder}/{image_id}.pt", weights_only=True)
        dense = torch.zeros(1, NUM_CLASSES, 15, 15)
        dense[0].scatter_(0, classes.long(), logits)
        top, left, crop_height, crop_width = crop
        y, x = 15 / height, 15 / width
        box = torch.tensor([[0.0, left * x, top * y, (left + crop_width) * x, (top + crop_height) * y]])
        return roi_align(dense, box, output_size=1).flatten().softmax(0)


class FullMasks:
    """Labels by torchvision's own means: the transform is applied to one image-sized mask per region.

    Args:
        annotations: Folder of a built dataset; its run-length codes stay in memory.
    """

    least = 0.05  # a class is present if one of its masks covers at least this share of the output

    def __init__(self, annotations: Path) -> None:
        self.regions: dict[str, list[tuple[dict[str, Any], int]]] = {}
        for shard in sorted((annotations / "data").glob("train-*.parquet")):
            for row in pq.read_table(shard, columns=["image_id", "regions"]).to_pylist():
                self.regions[row["image_id"]] = [(region["mask"], region["label"]) for region in row["regions"]]

    def of(self, image_id: str, height: int, width: int) -> tv_tensors.Mask | None:
        """Return (R, height, width) uint8 masks, resized by nearest neighbour; None without regions."""
        decoded = [torch.from_numpy(coco_mask.decode(mask))[None] for mask, _ in self.regions[image_id]]
        if not decoded:
            return None
        full = [F.resize(tv_tensors.Mask(mask), [height, width]) for mask in decoded]
        return tv_tensors.Mask(torch.cat(full))

    def target(self, image_id: str, shown: torch.Tensor | None) -> torch.Tensor:
        """Return the (1000,) multi-hot target of the transformed masks."""
        target = torch.zeros(NUM_CLASSES)
        if shown is not None:
            covered = shown.flatten(1).float().mean(1) >= self.least
            labels = torch.tensor([label for _, label in self.regions[image_id]])
            target[labels[covered]] = 1.0
        return target


class DenseVectorImages(ImageFolder):
    """Images with `DenseVectors`."""

    def __init__(self, inputs: LoaderInputs) -> None:
        super().__init__(os.fspath(inputs.split_folder), transform())
        self.labels = DenseVectors(inputs.table)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, _ = self.samples[index]
        return self.transform(self.loader(path)), self.labels.of(os.path.basename(path))


class LabelMapImages(ImageFolder):
    """Images with `LabelMaps`; draws crop and flip itself, because the labels need the crop."""

    def __init__(self, inputs: LoaderInputs) -> None:
        super().__init__(os.fspath(inputs.split_folder))
        self.labels = LabelMaps(inputs.label_maps)
        self.crop = v2.RandomResizedCrop(SIZE)
        self.rest = v2.Compose([v2.RandomHorizontalFlip(), v2.PILToTensor()])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, _ = self.samples[index]
        image = self.loader(path)
        drawn = self.crop.make_params([image])
        crop = (drawn["top"], drawn["left"], drawn["height"], drawn["width"])
        output = self.rest(F.resized_crop(image, *crop, [SIZE, SIZE]))
        return output, self.labels.of(image_id_of(path), crop, image.height, image.width)


class FullMaskImages(ImageFolder):
    """Images with `FullMasks`."""

    def __init__(self, inputs: LoaderInputs) -> None:
        super().__init__(os.fspath(inputs.split_folder))
        self.labels = FullMasks(inputs.annotations)
        self.both = transform()

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, _ = self.samples[index]
        image_id, image = image_id_of(path), self.loader(path)
        masks = self.labels.of(image_id, image.height, image.width)
        output, shown = self.both(image, masks)
        return output, self.labels.target(image_id, shown)


def image_id_of(path: str) -> str:
    """Return `<last folder>/<stem>` of a path."""
    folder, name = path.split(os.sep)[-2:]
    return f"{folder}/{os.path.splitext(name)[0]}"


BASE, CONTROL, OURS = "ImageFolder", "ImageFolder again", "ours"
APPROACHES = {
    BASE: "torchvision, single label; the baseline",
    "dense vectors": "published loader: dict of dense vectors, labels of the whole image",
    "label maps": "ReLabel: a label map file per sample, RoIAlign on the crop",
    "full masks": "torchvision v2 with full-size masks",
    OURS: "MultiLabelImageNet(target='multi_hot')",
    CONTROL: "a second instance of the baseline; its ratio is noise",
}


def make(name: str, inputs: LoaderInputs) -> Dataset:
    """Return the dataset of an approach."""
    rivals = {"dense vectors": DenseVectorImages, "label maps": LabelMapImages, "full masks": FullMaskImages}
    if name in rivals:
        return rivals[name](inputs)
    if name == OURS:
        return MultiLabelImageNet(inputs.images, transform(), annotations=inputs.annotations, target="multi_hot")
    return ImageFolder(os.fspath(inputs.split_folder), transform())
