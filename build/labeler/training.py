"""Training of a labeler on regions of known class, with one shard in memory at a time.

Under torch.distributed, each process takes its part of every batch, and gradients are averaged. The result equals that
of one process, except for rounding (and dropout, which drops other units).
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
from mlimagenet_data.evaluate.metrics.calibration import calibration

__all__ = ["History", "Regions", "Training", "fit_temperature", "train"]

_LEAST_HELD_OUT = 20  # with fewer held-out regions: no early stopping, no temperature
_MOST_HELD_OUT = 20_000  # for the temperature
_LARGEST_TEMPERATURE = 20.0


class Regions(NamedTuple):
    """A shard's regions of known class.

    Attributes:
        features: (n, V, D) float32, V versions of each region's features; every step draws one of them.
        classes: (n,) int64.
        held_out: (n,) bool, excluded from training.
    """

    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of the training.

    Attributes:
        epochs: Maximum number of passes over the regions.
        learning_rate: Learning rate of AdamW.
        batch_size: Regions per step; the last step of a shard may have fewer.
        balance: Regions are drawn with weights count(class) ** -balance: 0 draws each once per epoch, 1 draws all
            classes equally often.
        patience: Stop after this many epochs without a lower held-out loss, and keep the best epoch's weights.
        seed: Random seed. The same seed produces the same labeler on the same machine.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    balance: float = 0.0
    patience: int = 3
    seed: int = 0


class History(NamedTuple):
    """The outcome of training; NaN where too few regions are held out.

    Attributes:
        epochs: Epochs run.
        best_epoch: The epoch whose weights were kept, counting from 1; 0 if no epoch improved on the start.
        loss: Mean loss of the last epoch's steps.
        held_out_loss: Held-out loss of the best epoch, before calibration.
        held_out_accuracy: Held-out accuracy of the best epoch.
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
    """Train a labeler in place, with cross-entropy and AdamW.

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
    """Return each class's weight (0 for a class without regions) and the number of draws per unit of weight."""
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
    """Train for an epoch and return the mean loss of its steps."""
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
            # DDP averages the processes' gradients, but their parts may differ in length
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
    """Return the rows of a shard to train on, in random order."""
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
    """Yield the logits and classes of each shard's held-out regions, from the first version of their features."""
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
    """Set the temperature with the lowest held-out loss; return it with the calibration errors before and after.

    With too few held-out regions, change nothing and return {}.

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
    from scipy.optimize import minimize_scalar  # slow to import, and --help does not need it

    logits, classes = torch.cat([part[0] for part in parts]).double(), torch.cat([part[1] for part in parts])

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(logits / np.exp(log_temperature), classes))

    bound = float(np.log(_LARGEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-4})
    labeler.temperature = float(np.exp(found.x))
    right = (logits.argmax(dim=1) == classes).numpy()

    def error(temperature: float) -> float:
        confidence = (logits / temperature).softmax(dim=1).amax(dim=1)
        return calibration(confidence.numpy(), right).error

    errors = [round(error(temperature), 4) for temperature in (1.0, labeler.temperature)]
    return {"temperature": labeler.temperature, "calibration_error": errors}
