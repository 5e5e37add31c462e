"""Training of a labeler on regions of known class, drawn at random from all of them.

Images are sorted by class, so neighbouring regions are of one class: batches of neighbours would teach little.

Under torch.distributed, each process reads and takes its part of every batch, and gradients are averaged. The result
equals that of one process, except for rounding (and dropout, which drops other units).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from build.labeler.head import Labeler
from build.labeler.regions import Regions
from mlimagenet_data.evaluate.metrics.calibration import calibration

__all__ = ["History", "Training", "fit_temperature", "train"]

_LEAST_HELD_OUT = 20  # with fewer held-out regions: no early stopping, no temperature
_MOST_HELD_OUT = 20_000  # for the temperature
_LARGEST_TEMPERATURE = 20.0
_EVALUATED_AT_ONCE = 8192  # regions, read from the disk


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of the training.

    Attributes:
        epochs: Maximum number of passes over the regions.
        learning_rate: Learning rate of AdamW.
        batch_size: Regions per step; the last step of an epoch may have fewer.
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
    regions: Regions,
    how: Training,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, loss, held_out: None,
) -> History:
    """Train a labeler in place, with cross-entropy and AdamW.

    Args:
        labeler: The labeler, on the device to train on.
        regions: All regions, in any order; the features may lie in a memory-mapped file.
        how: The settings.
        on_epoch: Called with each epoch's number, mean loss and held-out loss.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    generator = np.random.default_rng(how.seed)
    device = next(labeler.parameters()).device
    model = nn.parallel.DistributedDataParallel(labeler) if distributed.is_initialized() else labeler
    optimiser = torch.optim.AdamW(labeler.parameters(), lr=how.learning_rate)
    best, best_epoch = _evaluate(labeler, regions), 0
    stops = best.regions >= _LEAST_HELD_OUT
    state, loss, epoch = copy.deepcopy(labeler.state_dict()), float("nan"), 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(how.seed + _rank())
        for epoch in range(1, how.epochs + 1):
            loss = _epoch(model, optimiser, regions, generator, how)
            now = _evaluate(labeler, regions)
            on_epoch(epoch, loss, now.loss)
            if not stops or now.loss < best.loss:
                best, best_epoch, state = now, epoch, copy.deepcopy(labeler.state_dict())
            elif epoch - best_epoch >= how.patience:
                break
    labeler.load_state_dict(state)
    return History(epoch, best_epoch, loss, best.loss, best.accuracy)


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    regions: Regions,
    generator: np.random.Generator,
    how: Training,
) -> float:
    """Train for an epoch and return the mean loss of its steps."""
    model.train()
    device = next(model.parameters()).device
    order = _draw(regions, how.balance, generator)
    total, steps = torch.zeros((), device=device), 0
    for batch in _batches(order, how.batch_size):
        variants = generator.integers(0, regions.features.shape[1], len(batch))
        own = slice(_rank(), None, _processes())
        rows = batch[own]
        features = torch.from_numpy(np.asarray(regions.features[rows, variants[own]])).to(device).float()
        wanted = torch.from_numpy(regions.classes[rows]).to(device)
        # DDP averages the processes' gradients, but their parts may differ in length
        share = len(batch) / _processes()
        loss = nn.functional.cross_entropy(model(features), wanted, reduction="sum") / share
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.detach()  # read once an epoch: a GPU need not wait for the CPU
        steps += 1
    mean = total.item() / steps if steps else float("nan")
    if steps and not np.isfinite(mean):
        raise FloatingPointError(
            f"the labeler's loss is not finite at learning rate {how.learning_rate}; try a lower one"
        )
    return mean


def _draw(regions: Regions, balance: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the rows of an epoch, in random order: as many as are not held out."""
    rows = np.flatnonzero(~regions.held_out)
    if balance == 0 or not len(rows):
        return generator.permutation(rows)
    classes = regions.classes[rows]
    weights = np.bincount(classes)[classes] ** -balance
    return rows[generator.choice(len(rows), len(rows), p=weights / weights.sum())]


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


class _Score(NamedTuple):
    regions: int
    loss: float
    accuracy: float


def _evaluate(labeler: Labeler, regions: Regions) -> _Score:
    """Return the score on the held-out regions, by the first version of their features."""
    device = next(labeler.parameters()).device
    sums = torch.zeros(3, dtype=torch.float64)
    own = np.flatnonzero(regions.held_out)[_rank() :: _processes()]
    for rows in _batches(own, _EVALUATED_AT_ONCE):
        logits, classes = (
            torch.from_numpy(labeler.logits(regions.features[rows, 0])),
            torch.from_numpy(regions.classes[rows]),
        )
        loss = nn.functional.cross_entropy(logits, classes, reduction="sum")
        sums += torch.tensor([len(rows), float(loss), int((logits.argmax(dim=1) == classes).sum())])
    if distributed.is_initialized():
        shared = sums.to(device)
        distributed.all_reduce(shared)
        sums = shared.cpu()
    count, loss_sum, right = sums.tolist()
    return _Score(int(count), loss_sum / count, right / count) if count else _Score(0, float("nan"), float("nan"))


def fit_temperature(labeler: Labeler, parts: Iterable[Regions]) -> dict[str, Any]:
    """Set the temperature with the lowest held-out loss; return it with the calibration errors before and after.

    Args:
        labeler: Gets the temperature.
        parts: Regions, of which the held-out ones count; no more parts are read than needed, so their order should be
            random.

    With too few held-out regions, change nothing and return {}.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
    """
    labeler.temperature = 1.0
    held: list[tuple[Tensor, Tensor]] = []
    for part in parts:
        values = labeler.logits(part.features[part.held_out, 0])
        held.append((torch.from_numpy(values), torch.from_numpy(part.classes[part.held_out])))
        if sum(len(classes) for _, classes in held) >= _MOST_HELD_OUT:
            break
    if sum(len(classes) for _, classes in held) < _LEAST_HELD_OUT:
        return {}
    from scipy.optimize import minimize_scalar  # slow to import, and --help does not need it

    logits, classes = torch.cat([part[0] for part in held]).double(), torch.cat([part[1] for part in held])

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
