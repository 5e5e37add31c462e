"""The ways to feed crops with labels that benchmarks/loader.py compares, as datasets of one interface.

Rivals are written from their descriptions: the published multi-label loader keeps a dense vector for every file; ReLabel
(arXiv 2101.05022) reads a label map per sample and pools it over the crop; torchvision's own means would be full-size masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.ops import roi_align
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mlimagenet_data import AnnotationStore, MultiLabelImageNet
from mlimagenet_data.view import stretch_mask

SIZE = 224
CLASSES = 1000


def transform() -> v2.Compose:
    """Return the transform that all contenders use."""
    return v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()])


class DenseVectors(ImageFolder):
    """A dict from file to a dense vector of the image's scores: the crop does not matter."""

    def __init__(self, root: str, store: AnnotationStore) -> None:
        super().__init__(root, transform())
        self.vectors = dense_vectors(store)

    def __getitem__(self, index: int):
        path, _ = self.samples[index]
        image = self.transform(self.loader(path))
        return image, (self.vectors[Path(path).stem] > 0.25).float()


def dense_vectors(store: AnnotationStore) -> dict[str, torch.Tensor]:
    """Return a vector of 1000 scores for each file's stem."""
    out = {}
    for row in range(len(store)):
        record = store.record(row)
        vector = torch.zeros(CLASSES)
        for index, score in record.labels:
            vector[index] = score
        out[Path(record.file_name).stem] = vector
    return out


class LabelMaps(ImageFolder):
    """ReLabel: a file with the top-5 logits and classes of 15 x 15 places, pooled over the crop by RoIAlign."""

    def __init__(self, root: str, folder: Path) -> None:
        super().__init__(root)
        self.folder = folder
        for path, _ in self.samples:
            torch.save(
                torch.stack([torch.randn(5, 15, 15), torch.randint(0, CLASSES, (5, 15, 15)).float()]),
                self.map_file(path),
            )

    def map_file(self, path: str) -> Path:
        """Return where an image's label map lies."""
        return self.folder / f"{Path(path).stem}.pt"

    def __getitem__(self, index: int):
        path, _ = self.samples[index]
        image = self.loader(path)
        top, left, height, width = v2.RandomResizedCrop(SIZE).make_params([image]).values()
        crop = F.resized_crop(image, top, left, height, width, [SIZE, SIZE])
        logits, classes = torch.load(self.map_file(path), weights_only=True)
        dense = torch.zeros(CLASSES, 15, 15).scatter_(0, classes.long(), logits)
        flip = bool(torch.rand(1) < 0.5)
        box = torch.tensor([[0, left, top, left + width, top + height]]) * torch.tensor(
            [1, 15 / image.width, 15 / image.height, 15 / image.width, 15 / image.height]
        )
        pooled = roi_align(dense[None], box, 1).flatten().softmax(0)
        return F.pil_to_tensor(F.horizontal_flip(crop) if flip else crop), pooled


class FullMasks(ImageFolder):
    """torchvision v2 with a full-size mask for each region, sent through the transform; labels by what is left of them."""

    def __init__(self, root: str, store: AnnotationStore) -> None:
        super().__init__(root)
        self.records = {Path(store.file_name(row)).stem: store.record(row) for row in range(len(store))}
        self.both = transform()

    def __getitem__(self, index: int):
        path, _ = self.samples[index]
        record = self.records[Path(path).stem]
        image = self.loader(path)
        regions = record.regions
        if not regions:
            return self.both(image), torch.zeros(CLASSES)
        masks = np.stack([stretch_mask(region.mask, image.height, image.width) for region in regions])
        output, shown = self.both(image, tv_tensors.Mask(torch.from_numpy(masks)))
        target = torch.zeros(CLASSES)
        coverage = shown.float().mean(dim=(1, 2))
        for region, share in zip(regions, coverage, strict=True):
            target[region.label] = max(float(target[region.label]), float(share >= 0.05))
        return output, target


def contenders(root: Path, annotations: Path, scratch: Path) -> dict[str, torch.utils.data.Dataset]:
    """Return the datasets by name; the first is what all are compared with, the second the same once more."""
    folder = str(root / "train" if (root / "train").is_dir() else root)
    store = AnnotationStore(annotations, "train")
    return {
        "ImageFolder": ImageFolder(folder, transform()),
        "ImageFolder again": ImageFolder(folder, transform()),
        "dense vectors": DenseVectors(folder, store),
        "label maps": LabelMaps(folder, scratch),
        "full masks": FullMasks(folder, store),
        "ours": MultiLabelImageNet(root, transform(), annotations=annotations),
    }
