"""Stage 2, labeler: the head that names regions.

It starts from the backbone's own head, and is trained on the regions that agree with their image's original label (alignment)
if enough classes have enough of them; otherwise the backbone's head is used as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from build.config import ConfigError, digest
from build.ledger import Output
from build.models.embedded import EmbeddedBackbone
from build.models.labeler import LinearHead, train_head
from build.plan import LABELER_FILE, Plan, Stage, Unit
from build.progress import console
from mlimagenet_data.classes import NUM_CLASSES

__all__ = ["LabelerStage", "aligned_regions"]


def aligned_regions(file: str, dimension: int, alignment: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features (n, D) and classes (n,) of a shard's regions whose alignment is at least `alignment`."""
    table = pq.read_table(file, columns=["label", "alignment", "features"])
    features, classes = [np.zeros((0, dimension), np.float32)], []
    for row in table.to_pylist():
        scores = [-1.0 if score is None else score for score in row["alignment"]]  # null without an original label
        keep = np.flatnonzero(np.array(scores, np.float32) >= alignment)
        if len(keep):
            features.append(np.frombuffer(row["features"], "<f2").reshape(-1, dimension)[keep].astype(np.float32))
            classes += [row["label"]] * len(keep)
    return np.concatenate(features), np.array(classes, np.int64)


class LabelerStage(Stage):
    """Chooses, and where it pays trains, the labeler."""

    name = "labeler"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._shards = [plan.ledger("regions").path(unit.file) for unit in plan.shards]

    def units(self) -> list[Unit]:
        """One unit: the head."""
        return [Unit(LABELER_FILE, 0, len(self.plan.listing.images))]

    def settings(self) -> dict[str, Any]:
        """Add the temperature, which belongs to the regions stage, but is applied here, too."""
        return {**super().settings(), "temperature": self.plan.config.temperature}

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings and all regions."""
        return digest([settings, [self.plan.hash_of("regions", shard.file) for shard in self.plan.shards]])

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> Output:
        """Count the aligned regions, choose the path, and train if that is it."""
        start = time.perf_counter()
        config = self.plan.config
        head = self._start()
        counts = self._count(head)
        covered = int((counts >= config.labeler_min_regions).sum())
        needed = int(np.ceil(config.labeler_min_classes * len(head.bias)))
        console.print(
            f"  {counts.sum()} regions have an alignment >= {config.alignment:g}; {covered} of {len(head.bias)} classes have "
            f"{config.labeler_min_regions} or more"
        )
        if head.weight.any():
            trains = covered >= needed and counts.sum() > 0
            path = "trained" if trains else "backbone_head"
            then = "training the head on them" if trains else "the classifier's own head names the regions"
            console.print(f"  {needed} classes are needed to train the classifier's head further: {then}")
        else:
            trains, path = True, "trained_from_nothing"
            if not counts.sum():
                raise ConfigError(
                    f"region_features: no region has an alignment of at least {config.alignment:g}, so no head can be trained "
                    f"on the features of {config.backbone}; try --region-features classifier, or a lower --alignment"
                )
            console.print(
                f"  training a head on {config.backbone}'s features; classes without a region are never named"
            )
        if trains:
            head = self._train(head)
        advance(unit.images)
        seconds = {"labeler": round(time.perf_counter() - start, 3)}
        facts = {"path": path, "aligned": int(counts.sum()), "covered": covered, "needed": needed, "seconds": seconds}
        return Output(len(head.bias), facts, head.save)

    def _start(self) -> LinearHead:
        """Return the classifier's head, or zeros if the regions' features are not the classifier's."""
        config = self.plan.config
        if not config.names_by_backbone:
            return LinearHead(*EmbeddedBackbone(config.label_map_size, torch.device("cpu")).head)
        entries = [self.plan.entry("regions", shard.file) for shard in self.plan.shards]
        dimension = max(entry.facts["dimension"] for entry in entries)
        return LinearHead(np.zeros((NUM_CLASSES, dimension), np.float32), np.zeros(NUM_CLASSES, np.float32))

    def _load(self, shard: int, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return aligned_regions(str(self._shards[shard]), dimension, self.plan.config.alignment)

    def _count(self, head: LinearHead) -> NDArray[np.int64]:
        counts = np.zeros(len(head.bias), np.int64)
        for shard in range(len(self._shards)):
            counts += np.bincount(self._load(shard, head.weight.shape[1])[1], minlength=len(counts))
        return counts

    def _train(self, head: LinearHead) -> LinearHead:
        config = self.plan.config
        return train_head(
            head,
            len(self._shards),
            lambda shard: self._load(shard, head.weight.shape[1]),
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            batch_size=config.train_batch_size,
            seed=config.seed,
            temperature=config.temperature,
            on_epoch=lambda loss: console.print(f"  mean loss {loss:.4f}"),
        )
