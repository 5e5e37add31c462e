"""Stage 2, labeler: the head that names regions.

It starts from the classifier's own head. If enough classes have enough regions that agree with their image's original
label (alignment), it is trained on these regions; otherwise the classifier's head is used unchanged.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from build.config.options import BuildConfig, ConfigError, digest
from build.distributed import is_first_on_machine, process_group, wait_for_all
from build.images.listing import evenly_spaced
from build.labeler.aligned import ALIGNMENT, aligned_groups, merged
from build.labeler.head import Labeler, one_thread
from build.labeler.originals import fit_trust
from build.labeler.regions import Regions, open_regions, save_regions
from build.labeler.training import Training, fit_temperature, train
from build.networks.classifier import make_classifier
from build.networks.forward import pick_device
from build.ops.image_labels import rival_of
from build.ops.pooling import softmax
from build.progress import console
from build.records import RegionsRow, read_rows
from build.stage import Stage
from build.state.ledger import UnitOutput
from build.state.plan import LABELER_FILE, Plan, Unit
from mlimagenet_data.classes import NUM_CLASSES

__all__ = ["LabelerStage", "aligned_regions", "count_aligned", "is_held_out", "whole_evidence", "whole_images"]

_TRUST_SHARDS = 200  # evenly spaced shards that the trust in original labels is fitted on


def is_held_out(image_id: str, share: float) -> bool:
    """Return whether an image's regions are held out; the choice depends only on its id and the share."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "little") < share * 2.0**64


def count_aligned(file: Path, alignment: float, classes: int, align_with: str = "original") -> NDArray[np.int64]:
    """Return the number of a shard's aligned regions of each class, (classes,), without reading features."""
    rows = read_rows(file, RegionsRow, *ALIGNMENT)
    labels = [one for row in rows for one, _ in aligned_groups(row, alignment, align_with)]
    return np.bincount(np.array(labels, np.int64), minlength=classes)


def aligned_regions(
    file: Path, shape: tuple[int, ...], alignment: float, held_out: float, align_with: str = "original"
) -> Regions:
    """Return a shard's regions that were clicked, or are aligned with a class.

    Args:
        file: The regions stage's Parquet file.
        shape: (D,) or (S, D), the shape of a region's features.
        alignment: See `aligned_groups`.
        held_out: Share of the images to hold out.
        align_with: See `aligned_groups`.
    """
    features, classes, held = [], [], []
    for row in read_rows(file, RegionsRow, "image_id", "area", "features", "variants", *ALIGNMENT):
        versions: NDArray[np.float16] | None = None
        for one, members in aligned_groups(row, alignment, align_with):
            versions = _versions(row, shape) if versions is None else versions
            features.append(merged(versions[members], np.array(row.area)[members]))
            classes.append(one)
            held.append(is_held_out(row.image_id, held_out))
    if not features:
        return Regions(np.zeros((0, 1, *shape), np.float16), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    return Regions(np.stack(features), np.array(classes, np.int64), np.array(held, np.bool_))


def _versions(row: RegionsRow, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Return (R, 1 + V, *shape) float16: the features of an image's regions, and their versions with patches dropped."""
    whole = np.frombuffer(row.features or b"", "<f2").reshape(-1, 1, *shape)[:-1]
    dropped = np.frombuffer(row.variants or b"", "<f2").reshape(len(whole), -1, *shape)
    return np.concatenate((whole, dropped), axis=1)


def whole_images(file: Path, shape: tuple[int, ...], held_out: float) -> Regions:
    """Return a shard's images with an original label, each as one region, to calibrate scores on.

    Aligned regions are unsuitable for this, because they are selected by the label map's confidence.
    """
    rows = read_rows(file, RegionsRow, "image_id", "label", "features")
    rows = [row for row in rows if row.label is not None and row.features is not None]
    features = [np.frombuffer(row.features or b"", "<f2").reshape(-1, 1, *shape)[-1] for row in rows]
    return Regions(
        np.array(features, np.float32).reshape(-1, 1, *shape),
        np.array([row.label for row in rows], np.int64),
        np.array([is_held_out(row.image_id, held_out) for row in rows], np.bool_),
    )


def whole_evidence(
    file: Path, labeler: Labeler, temperature: float, shape: tuple[int, ...] | None = None
) -> NDArray[np.float64]:
    """Return a shard's evidence on original labels: (n, 3), the columns that `fit_trust` reads.

    It is that of what sees whole images, or else the labeler's. `shape` is that of a region's features; (D,) if not given.
    """
    out, shape = [], shape or (labeler.dimension,)
    columns = ("label", "whole_classes", "whole_scores", "classes", "class_scores", "features")
    for row in read_rows(file, RegionsRow, *columns):
        if row.label is None or row.features is None:
            continue
        if row.whole_classes is not None:
            whole = dict(zip(row.whole_classes, row.whole_scores or [], strict=True))
        elif row.classes is not None:
            whole = dict(zip(row.classes[-1], (row.class_scores or [[]])[-1], strict=True))
        else:
            features = np.frombuffer(row.features, "<f2").reshape(-1, *shape)[-1:]
            p = softmax(labeler.logits(features), temperature)[0]
            whole = {int(k): float(p[k]) for k in [*np.argsort(-p, kind="stable")[:3], row.label]}
        own, rival = rival_of(whole, row.label)
        others = sorted((p for k, p in whole.items() if k != row.label), reverse=True)
        out.append((own, rival, max(own, others[1])))
    return np.array(out, np.float64).reshape(-1, 3)


class LabelerStage(Stage):
    """Chooses the labeler, and trains it if there are enough aligned regions."""

    name = "labeler"
    method = 4

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._files: dict[int, Path] = {}

    def units(self) -> list[Unit]:
        """Return one unit: the labeler."""
        return [Unit(LABELER_FILE, 0, len(self.plan.listing.images))]

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings and all regions."""
        return digest([settings, [self.plan.hash_of("regions", shard.file) for shard in self.plan.shards]])

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Count the aligned regions, decide whether to train, and train if so."""
        with one_thread():  # the weights do not depend on how many there are
            return self._compute(unit, advance)

    def _compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        start = time.perf_counter()
        config = self.plan.config
        labeler, path = self._start()
        counts = self._count(labeler)
        covered = int((counts >= config.labeler_min_regions).sum())
        needed = int(np.ceil(config.labeler_min_classes * labeler.classes))
        console.print(
            f"  regions with an alignment of at least {config.alignment:g}: {counts.sum()}; "
            f"classes with at least {config.labeler_min_regions} such regions: {covered} of {labeler.classes}"
        )
        if path == "trained":
            trains = covered >= needed and counts.sum() > 0
            then = "training the labeler on these regions" if trains else "the classifier's own head names the regions"
            console.print(f"  {needed} such classes are needed to train the classifier's head further: {then}")
            if not trains:
                path = "backbone_head"
                labeler = labeler if config.head == "linear" else self._start(hidden=())[0]
        elif not counts.sum():
            raise ConfigError(
                f"region_features: no region has an alignment of at least {config.alignment:g}, so no labeler can be "
                f"trained on the features of {config.naming_network or config.backbone}; try a lower --alignment, or "
                "--region-features classifier"
            )
        else:
            console.print(
                f"  training a labeler on the features of {config.naming_network or config.backbone}; it never names a class "
                "without regions"
            )
        facts: dict[str, Any] = {"path": path, "aligned": int(counts.sum()), "covered": covered, "needed": needed}
        if config.byproducts:
            facts["clicks"] = self._clicks()
        if path != "backbone_head":
            facts.update(self._train(labeler, int(counts.sum())))
        labeler.trust = fit_trust(*self._evidence(labeler))
        facts["trust"] = asdict(labeler.trust)
        if labeler.trust.images and config.label_rule == "trust":
            console.print(
                f"  original labels: {labeler.trust.error:.1%} estimated to be wrong, evidence weighted by "
                f"{labeler.trust.weight:.2f} (from {labeler.trust.images} images)"
            )
        advance(unit.images)
        seconds = {"labeler": round(time.perf_counter() - start, 3)}
        return UnitOutput(labeler.classes, {**facts, "seconds": seconds}, labeler.save)

    def _start(self, hidden: tuple[int, ...] | None = None) -> tuple[Labeler, str]:
        """Return the initial labeler and its path: the classifier's head, or an untrained one for another network."""
        config = self.plan.config
        if hidden is None:
            hidden = (config.hidden_size,) * 2 if config.head == "mlp" else ()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            if not config.names_by_backbone:
                weight, bias = make_classifier(config, config.label_map_size, torch.device("cpu")).head
                return Labeler.of_classifier(weight, bias, hidden=hidden, dropout=config.dropout), "trained"
            entries = [self.plan.entry("regions", shard.file) for shard in self.plan.shards]
            dimension = max(entry.facts["dimension"] for entry in entries)
            labeler = Labeler(dimension, NUM_CLASSES, linear=not hidden, hidden=hidden, dropout=config.dropout)
            return labeler, "trained_from_nothing"

    def _file(self, shard: int) -> Path:
        """Return the file of a shard's regions; looked up once, because training reads it in every epoch."""
        if shard not in self._files:
            self._files[shard] = self.plan.ledger("regions").read(self.plan.shards[shard].file)
        return self._files[shard]

    def _count(self, labeler: Labeler) -> NDArray[np.int64]:
        counts = np.zeros(labeler.classes, np.int64)
        for shard in range(len(self.plan.shards)):
            config = self.plan.config
            counts += count_aligned(self._file(shard), config.alignment, labeler.classes, config.align_with)
        return counts

    def _evidence(self, labeler: Labeler) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return, for a sample of the images with an original label, what `fit_trust` reads."""
        shards = evenly_spaced(range(len(self.plan.shards)), _TRUST_SHARDS)
        config = self.plan.config
        shape = config.feature_shape(labeler.dimension)
        parts = [whole_evidence(self._file(shard), labeler, config.temperature, shape) for shard in shards]
        own, rival, rest = np.concatenate([np.zeros((0, 3)), *parts]).T
        return own, rival, rest

    def _clicks(self) -> dict[str, int]:
        """Count where clicks and alignment agree, over images with at least one clicked region."""
        counts = {"clicked": 0, "clicked_and_aligned": 0, "aligned_only": 0}
        for shard in range(len(self.plan.shards)):
            for row in read_rows(self._file(shard), RegionsRow, "alignment", "clicked"):
                if not any(row.clicked):
                    continue
                for score, was_clicked in zip(row.alignment, row.clicked, strict=True):
                    is_clicked = bool(was_clicked)
                    is_aligned = score is not None and score >= self.plan.config.alignment
                    counts["clicked"] += is_clicked
                    counts["clicked_and_aligned"] += is_clicked and is_aligned
                    counts["aligned_only"] += is_aligned and not is_clicked
        clicked, both, others = counts.values()
        console.print(f"  {clicked} regions were clicked, {both} of them aligned; {others} are aligned but not clicked")
        return counts

    def _aligned(self, dimension: int, count: int) -> Regions:
        """Gather the aligned regions in one file, once on each machine, and return them."""
        config = self.plan.config
        folder = self.plan.work / f"aligned-{os.environ.get('GROUP_RANK', '0')}"  # torchrun's number of this machine
        parts = (
            aligned_regions(
                self._file(shard), config.feature_shape(dimension), config.alignment, config.held_out, config.align_with
            )
            for shard in range(len(self.plan.shards))
        )
        if is_first_on_machine():
            shutil.rmtree(folder, ignore_errors=True)  # a killed run's
            save_regions(parts, count, folder)
        wait_for_all()
        regions = open_regions(folder)
        wait_for_all()
        if is_first_on_machine():
            shutil.rmtree(folder)  # the file's content stays until the processes that opened it end
        return regions

    def _train(self, labeler: Labeler, count: int) -> dict[str, Any]:
        """Train a labeler in place on `count` aligned regions and return the facts to report."""
        config = self.plan.config
        with process_group(pick_device(config.device)) as device:
            regions = self._aligned(labeler.dimension, count)
            history = train(labeler.to(device), regions, _training(config), _print_epoch)
        # shards are sorted by class, and not all of them may be read
        order = np.random.default_rng(config.seed).permutation(len(self.plan.shards)).tolist()
        shape = config.feature_shape(labeler.dimension)
        whole = (whole_images(self._file(shard), shape, config.held_out) for shard in order)
        calibration = fit_temperature(labeler, whole)
        if not math.isnan(history.held_out_loss):
            right = 100 * history.held_out_accuracy
            console.print(f"  kept epoch {history.best_epoch}: {right:.1f}% accuracy on held-out regions")
        if calibration:
            before, after = calibration["calibration_error"]
            console.print(
                f"  temperature {labeler.temperature:.2f}: calibration error on held-out images {before:.3f} before, "
                f"{after:.3f} after"
            )
        else:
            console.print("  too few held-out images to calibrate scores")
        known = {key: round(value, 4) for key, value in history._asdict().items() if not math.isnan(value)}
        return {"head": config.head, **known, **calibration}


def _training(config: BuildConfig) -> Training:
    return Training(
        epochs=config.epochs, learning_rate=config.learning_rate, batch_size=config.train_batch_size,
        balance=config.class_balance, patience=config.patience, seed=config.seed,
    )  # fmt: skip


def _print_epoch(epoch: int, loss: float, held_out: float) -> None:
    text = "" if math.isnan(held_out) else f", held-out loss {held_out:.4f}"
    console.print(f"  epoch {epoch}: mean loss {loss:.4f}{text}")
