"""Trains a labeler on regions whose class is known, in shards of which one is in memory at a time.

Under torch.distributed, each process takes its part of every batch and the gradients are averaged: the result is that of one
process, but for rounding (and for dropout, which draws other units).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from build.labeler.head import Labeler

__all__ = ["History", "Regions", "Training", "calibration_error", "fit_temperature", "train"]

_LEAST_HELD_OUT = 20  # fewer held-out regions say nothing: no early stopping, no temperature
_MOST_HELD_OUT = 20_000  # for the temperature
_LARGEST_TEMPERATURE = 20.0


class Regions(NamedTuple):
    """A shard's regions with known classes.

    Attributes:
        features: (n, V, D) float32, V versions of each region's features, from which one is drawn each time.
        classes: (n,) int64.
        held_out: (n,) bool, not trained on.
    """

    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train.

    Attributes:
        epochs: Most passes over the regions.
        learning_rate: AdamW's.
        batch_size: Regions a step; the last step of a shard may have fewer.
        balance: Regions are drawn with weights count(class) ** -balance: 0 takes each once an epoch, 1 all classes equally often.
        patience: Epochs without a lower held-out loss after which training stops; the best epoch's weights are taken.
        seed: Of all that is drawn. The same seed gives the same labeler on the same machine.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    balance: float = 0.0
    patience: int = 3
    seed: int = 0


class History(NamedTuple):
    """What training came to; NaN where too few regions are held out.

    Attributes:
        epochs: Epochs run.
        best_epoch: The epoch whose weights were taken, from 1 on; 0: the start was better than any.
        loss: Mean loss of the last epoch's steps.
        held_out_loss: At the best epoch, before calibration.
        held_out_accuracy: Likewise.
    """

    epochs: int
    best_epoch: int
    loss: float
    held_out_loss: float
    held_out_accuracy: float


def train(
    labeler: Labeler,
    shards: int,
    load: Callable[[int], Regions],
    how: Training,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, loss, held_out: None,
) -> History:
    """Train a labeler in place, by cross-entropy with AdamW.

    Args:
        labeler: The labeler, on the device to train on.
        shards: Number of shards; each epoch visits them in a random order.
        load: Returns a shard's regions.
        how: The settings.
        on_epoch: Called with each epoch's number, mean loss and held-out loss.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    generator = np.random.default_rng(how.seed)
    weights = _class_weights(shards, load, labeler.classes, how.balance)
    model = nn.parallel.DistributedDataParallel(labeler) if distributed.is_initialized() else labeler
    optimiser = torch.optim.AdamW(labeler.parameters(), lr=how.learning_rate)
    best, best_epoch = _evaluate(labeler, shards, load), 0
    stops = best.regions >= _LEAST_HELD_OUT
    state, loss, epoch = copy.deepcopy(labeler.state_dict()), float("nan"), 0
    with torch.random.fork_rng():
        torch.manual_seed(how.seed + _rank())
        for epoch in range(1, how.epochs + 1):
            loss = _epoch(model, optimiser, shards, load, weights, generator, how)
            now = _evaluate(labeler, shards, load)
            on_epoch(epoch, loss, now.loss)
            if not stops or now.loss < best.loss:
                best, best_epoch, state = now, epoch, copy.deepcopy(labeler.state_dict())
            elif epoch - best_epoch >= how.patience:
                break
    labeler.load_state_dict(state)
    return History(epoch, best_epoch, loss, best.loss, best.accuracy)


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _class_weights(
    shards: int, load: Callable[[int], Regions], classes: int, balance: float
) -> tuple[NDArray[np.float64], float]:
    """Return each class's weight, 0 for one without regions, and the number of draws for a weight of 1."""
    counts = np.zeros(classes)
    for shard in range(shards):
        regions = load(shard)
        counts += np.bincount(regions.classes[~regions.held_out], minlength=classes)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -balance, 0.0)
    return weights, float(counts.sum() / max((counts * weights).sum(), 1e-12))


def _epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    shards: int,
    load: Callable[[int], Regions],
    weights: tuple[NDArray[np.float64], float],
    generator: np.random.Generator,
    how: Training,
) -> float:
    """Return the mean loss of an epoch's steps."""
    model.train()
    device = next(model.parameters()).device
    losses = []
    for shard in generator.permutation(shards):
        regions = load(int(shard))
        for rows in _batches(_draw(regions, weights, how.balance, generator), how.batch_size):
            variants = generator.integers(0, regions.features.shape[1], len(rows))
            own = slice(_rank(), None, distributed.get_world_size() if distributed.is_initialized() else 1)
            features = torch.from_numpy(regions.features[rows[own], variants[own]]).to(device)
            wanted = torch.from_numpy(regions.classes[rows[own]]).to(device)
            # DDP takes the mean of the processes' gradients; parts may differ in length
            share = len(rows) / (distributed.get_world_size() if distributed.is_initialized() else 1)
            loss = nn.functional.cross_entropy(model(features), wanted, reduction="sum") / share
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
    if not np.isfinite(losses).all():
        raise FloatingPointError(
            f"the labeler's loss is not finite at learning rate {how.learning_rate}; try a lower one"
        )
    return float(np.mean(losses)) if losses else float("nan")


def _draw(
    regions: Regions, weights: tuple[NDArray[np.float64], float], balance: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return the rows of a shard to train on, in a random order."""
    rows = np.flatnonzero(~regions.held_out)
    if balance == 0 or not len(rows):
        return generator.permutation(rows)
    own = weights[0][regions.classes[rows]]
    count = round(float(own.sum()) * weights[1])
    return np.asarray(generator.choice(rows, count, p=own / own.sum()))


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


class _Score(NamedTuple):
    regions: int
    loss: float
    accuracy: float


def _held_out(labeler: Labeler, shards: int, load: Callable[[int], Regions]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and classes of the held-out regions of each shard; the first version of their features."""
    for shard in range(shards):
        regions = load(shard)
        if regions.held_out.any():
            logits = labeler.logits(regions.features[regions.held_out, 0])
            yield torch.from_numpy(logits), torch.from_numpy(regions.classes[regions.held_out])


def _evaluate(labeler: Labeler, shards: int, load: Callable[[int], Regions]) -> _Score:
    count, loss, right = 0, 0.0, 0
    for logits, classes in _held_out(labeler, shards, load):
        count += len(classes)
        loss += float(nn.functional.cross_entropy(logits, classes, reduction="sum"))
        right += int((logits.argmax(dim=1) == classes).sum())
    return _Score(count, loss / count, right / count) if count else _Score(0, float("nan"), float("nan"))


def fit_temperature(labeler: Labeler, shards: int, load: Callable[[int], Regions]) -> dict[str, Any]:
    """Set the temperature that gives the held-out regions the lowest loss, and return what it changed; {} if there are too few.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
    """
    labeler.temperature = 1.0
    parts: list[tuple[Tensor, Tensor]] = []
    for part in _held_out(labeler, shards, load):
        parts.append(part)
        if sum(len(classes) for _, classes in parts) >= _MOST_HELD_OUT:
            break
    if sum(len(classes) for _, classes in parts) < _LEAST_HELD_OUT:
        return {}
    from scipy.optimize import minimize_scalar  # slow to import, and --help needs no optimiser

    logits, classes = torch.cat([part[0] for part in parts]).double(), torch.cat([part[1] for part in parts])

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(logits / np.exp(log_temperature), classes))

    bound = float(np.log(_LARGEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-4})
    labeler.temperature = float(np.exp(found.x))
    before, after = (
        calibration_error((logits / t).softmax(dim=1).numpy(), classes.numpy()) for t in (1.0, labeler.temperature)
    )
    return {"temperature": labeler.temperature, "calibration_error": [round(before, 4), round(after, 4)]}


def calibration_error(probabilities: NDArray[np.floating], classes: NDArray[np.int64], bins: int = 15) -> float:
    """Return the expected calibration error of the best classes: mean |accuracy - confidence| over bins, by their sizes.

    Guo et al., 2017, eq. 3.

    Args:
        probabilities: (n, K).
        classes: (n,).
        bins: Equal parts of [0, 1].
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[place == k].sum() - confidence[place == k].sum()) for k in range(bins)]
    return float(sum(gaps) / len(classes))
