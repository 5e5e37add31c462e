"""Time to compute the labels of one given crop, without its image."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from benchmarks.contenders import OURS, SIZE, DenseVectors, FullMasks, LabelMaps
from benchmarks.synthetic import HEIGHT, WIDTH, image_ids, write_annotations, write_label_maps, write_table
from benchmarks.throughput import median_interval
from mlimagenet_data import MultiLabelImageNet

__all__ = ["SMOOTH", "label_costs"]

REGIONS = 4
SMOOTH = "ours, smooth masks"
_SECONDS = 0.15  # minimum duration of one measurement


def label_costs(scratch: Path, images: int, repeats: int, seed: int, console: Console) -> dict:
    """Return microseconds per sample by approach, at 4 regions of 64 x 64: medians and 95% intervals over repeats."""
    ids, _ = image_ids(images)
    crops = _crops(images, seed)
    ways = _ways(scratch, ids, crops, seed)
    counts = {name: _enough(way, images) for name, way in ways.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    generator = np.random.default_rng(seed)
    for _ in track(range(repeats), "labels alone", console=console, transient=True):
        for name in generator.permutation(list(ways)).tolist():
            picks = generator.integers(0, images, counts[name]).tolist()
            taken[name].append(_seconds(ways[name], picks) / len(picks) * 1e6)
    return {name: {**median_interval(np.array(us))._asdict(), "us": us} for name, us in taken.items()}


def _crops(count: int, seed: int) -> list[tuple[int, int, int, int]]:
    torch.manual_seed(seed)
    crop, canvas = v2.RandomResizedCrop(SIZE), Image.new("RGB", (WIDTH, HEIGHT))
    drawn = [crop.make_params([canvas]) for _ in range(count)]
    return [(box["top"], box["left"], box["height"], box["width"]) for box in drawn]


def _ways(scratch: Path, ids: list[str], crops: list, seed: int) -> dict[str, Callable[[int], Any]]:
    """Return, for each approach, a function from an image's number to the labels of its crop."""
    ragged = write_annotations(scratch / "ragged", len(ids), REGIONS, seed)
    smooth = write_annotations(scratch / "smooth", len(ids), REGIONS, seed, ragged=0.0)
    write_table(scratch / "table.tsv", ragged)
    write_label_maps(scratch / "maps", ids, seed)
    vectors, maps, masks = DenseVectors(scratch / "table.tsv"), LabelMaps(scratch / "maps"), FullMasks(ragged)
    ours, ours_smooth = (MultiLabelImageNet(folder, loader=str, annotations=folder) for folder in (ragged, smooth))
    names = [f"{image_id.rpartition('/')[2]}.JPEG" for image_id in ids]

    def by_masks(k: int) -> torch.Tensor:
        full = masks.of(ids[k], HEIGHT, WIDTH)
        return masks.target(ids[k], F.resized_crop(full, *crops[k], [SIZE, SIZE]))

    return {
        "dense vectors": lambda k: vectors.of(names[k]),
        "label maps": lambda k: maps.of(ids[k], crops[k], HEIGHT, WIDTH),
        "full masks": by_masks,
        OURS: lambda k: ours.labels_for(k, crops[k]),
        SMOOTH: lambda k: ours_smooth.labels_for(k, crops[k]),
    }


def _enough(way: Callable[[int], Any], images: int) -> int:
    """Return the number of samples that take about `_SECONDS`."""
    first = [k % images for k in range(20)]
    _seconds(way, first)  # warm up
    return max(20, int(_SECONDS / _seconds(way, first) * len(first)))


def _seconds(way: Callable[[int], Any], picks: list[int]) -> float:
    start = time.perf_counter()
    for k in picks:
        way(k)
    return time.perf_counter() - start
