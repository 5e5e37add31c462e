"""The data of one seed, shared by all methods: scenes, their crops, and targets from each source of labels."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from build import BuildConfig, relabel
from experiments.crops import Crops, as_tensor, draw_crops, targets_of
from experiments.networks import embedded_maps
from experiments.scenes import SIZE, Material, Scene, compose, write_scenes
from mlimagenet_data.losses.pooled import pool_label_map

__all__ = ["Options", "Trial", "TrialInputs"]

_SEEN = {
    "scratch": (48, 64),
    "features": (96, 128),
}  # pixels per side of crops, and of whole scenes, which show objects smaller
_TEST_CROPS = 4  # per test scene


@dataclasses.dataclass(frozen=True)
class Options:
    """Numbers of training scenes, test scenes, and crops per training scene."""

    scenes: int
    test_scenes: int
    crops: int


@dataclasses.dataclass(frozen=True)
class TrialInputs:
    """Inputs of one kind of network: training crops, whole test scenes, and crops of test scenes."""

    train: Tensor
    scenes: Tensor
    crops: Tensor


class Trial:
    """Draws scenes and crops, and labels them on demand.

    Args:
        material: Objects and backgrounds. Half of the backgrounds are for training, the other half for testing.
        seed: Seed of all draws.
        work: Folder to write scenes to.
        options: Numbers of scenes and crops.
    """

    def __init__(self, material: Material, seed: int, work: Path, options: Options) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._material, self._seed, self._work, self._options = material, seed, work, options
        scenes, self._root = self._compose(0, options.scenes)
        self._pixels, self.crops = _pixels(scenes), self._draw(options.scenes, options.crops)
        self.edges = self.crops.edges(SIZE)
        clicks = np.random.default_rng([seed, 2])
        self.clicks = torch.tensor([_click(scene, clicks) for scene in scenes], dtype=torch.float32)[self.crops.rows]
        scenes, root = self._compose(1, options.test_scenes)
        self._test_pixels, self._test_crops = _pixels(scenes), self._draw(options.test_scenes, _TEST_CROPS)
        found = self._targets(root, "mlimagenet", self._test_crops)
        self.crop_labels, self.scene_labels = found["crop"], found["image"][::_TEST_CROPS]

    def target(self, source: str, kind: str) -> Tensor:
        """Return the crops' targets, (N, K) float32, or (N,) int64 for `label`.

        Args:
            source: `known`: the composed objects; `maps`: as in ReLabel, the embedded network's label maps pooled over
                the crops; `built`: the build's labels of the scenes.
            kind: One of `experiments.crops.TARGETS`; `maps` has `pooled` only.
        """
        found: Tensor = getattr(self, f"_{source}")[kind]
        return found

    @cached_property
    def _known(self) -> dict[str, Tensor]:
        return self._targets(self._root, "mlimagenet", self.crops)

    @cached_property
    def _built(self) -> dict[str, Tensor]:
        relabel(BuildConfig(images=str(self._root), out=str(self._root / "built")))
        return self._targets(self._root, "built", self.crops)

    @cached_property
    def _maps(self) -> dict[str, Tensor]:
        found = [maps.label_maps[0][:, self._material.classes] for maps in embedded_maps(self._pixels, 2 * SIZE)]
        return {"pooled": pool_label_map(torch.cat(found)[self.crops.rows], self.edges)}

    @cached_property
    def pixels(self) -> TrialInputs:
        """Pixels for a network from scratch, uint8."""
        return self._inputs("scratch")

    @cached_property
    def features(self) -> TrialInputs:
        """The embedded network's features, (N, 1280, g, f) float16."""
        seen = self._inputs("features")
        return TrialInputs(_features(seen.train), _features(seen.scenes), _features(seen.crops))

    def _inputs(self, kind: str) -> TrialInputs:
        size, whole = _SEEN[kind]
        scenes = interpolate(self._test_pixels.float(), size=(whole, whole), mode="bilinear", antialias=True)
        scenes = scenes.round().clamp(0, 255).to(torch.uint8)
        return TrialInputs(
            self.crops.views(self._pixels, size), scenes, self._test_crops.views(self._test_pixels, size)
        )

    def _compose(self, half: int, count: int) -> tuple[list[Scene], Path]:
        material = dataclasses.replace(self._material, backgrounds=self._material.backgrounds[half::2])
        scenes, root = compose(material, count, [self._seed, half]), self._work / f"{self._seed}-{half}"
        if not next(root.glob("mlimagenet/data/*.parquet"), None):
            write_scenes(scenes, root)
        return scenes, root

    def _draw(self, scenes: int, each: int) -> Crops:
        return draw_crops(scenes, each, SIZE, self._generator)

    def _targets(self, root: Path, annotations: str, crops: Crops) -> dict[str, Tensor]:
        return targets_of(root, root / annotations, self._material.classes, crops)


def _pixels(scenes: list[Scene]) -> Tensor:
    return as_tensor(np.stack([scene.pixels for scene in scenes]))


def _features(pixels: Tensor) -> Tensor:
    return torch.cat([maps.features[0].half() for maps in embedded_maps(pixels, pixels.shape[-1])])


def _click(scene: Scene, generator: np.random.Generator) -> list[float]:
    """Return a random point on the largest object, (x, y) as shares of the scene."""
    cells = np.argwhere(scene.objects[0][1])
    row, column = cells[generator.integers(len(cells))] + generator.random(2)
    side = len(scene.objects[0][1])
    return [column / side, row / side]
