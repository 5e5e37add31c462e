"""Train one network by one method, and measure it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from experiments.methods import Method, TrialBatch
from experiments.networks import Network
from experiments.trials import Trial, TrialInputs
from mlimagenet_data.evaluate.metrics.arrays import known_mean
from mlimagenet_data.evaluate.metrics.ranking import class_average_precision
from mlimagenet_data.losses.heatmaps import Heatmaps

__all__ = ["MEASURES", "fit", "measure", "train"]

MEASURES = ("scenes", "crops", "top1")
_BATCH = 64


def train(method: Method, kind: str, trial: Trial, rate: float, seed: int, passes: int) -> dict[str, float]:
    """Train a network of one kind, `scratch` or `features`, and return its measures (see `measure`)."""
    inputs = trial.pixels if kind == "scratch" else trial.features
    torch.manual_seed(seed)
    classes = trial.scene_labels.shape[1]
    network = Network.small(classes) if kind == "scratch" else Network.linear(inputs.train.shape[1], classes)
    target = trial.target(method.source, method.target)
    if method.sigmoid:  # start from the frequency of a class
        share = 1 / classes if target.ndim == 1 else float((target > 0).float().mean())
        nn.init.constant_(network.head.bias, float(torch.logit(torch.tensor(share).clamp(1e-4, 0.5))))
    fit(network, inputs.train, method, trial, rate=rate, passes=passes, seed=seed)
    return measure(network, method, inputs, trial)


def fit(network: Network, inputs: Tensor, method: Method, trial: Trial, *, rate: float, passes: int, seed: int) -> None:
    """Train with AdamW and a one-cycle schedule.

    Args:
        network: The network, trained in place.
        inputs: (N, ...), its inputs for the trial's crops.
        method: The method.
        trial: The trial, which provides the targets.
        rate: The peak learning rate.
        passes: Number of passes over the crops.
        seed: Seed of the order of crops.
    """
    target = trial.target(method.source, method.target)
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.02)
    steps = passes * (len(inputs) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.2)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    with TemporaryDirectory() as folder:
        memory = None
        if method.cells:
            memory = Heatmaps(Path(folder) / "heatmaps.npy", int(trial.crops.rows.max()) + 1, size=method.cells)
        for _ in range(passes):
            order = torch.randperm(len(inputs), generator=generator)
            for k in order[: len(order) // _BATCH * _BATCH].split(_BATCH):
                batch = TrialBatch(target[k], trial.crops.rows[k], trial.edges[k], trial.clicks[k], memory)
                optimiser.zero_grad(set_to_none=True)
                method.loss(network(inputs[k]), batch).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimiser.step()
                schedule.step()
    network.eval()


@torch.inference_mode()
def measure(network: Network, method: Method, inputs: TrialInputs, trial: Trial) -> dict[str, float]:
    """Return mean average precision on whole scenes and on crops, and top-1 accuracy on scenes with one object."""
    found = {}
    for name, seen, labels in (
        ("scenes", inputs.scenes, trial.scene_labels),
        ("crops", inputs.crops, trial.crop_labels),
    ):
        scores = torch.cat([method.scores(network(part).logits) for part in seen.split(256)]).numpy()
        known = (labels > 0).numpy()
        found[name] = known_mean(class_average_precision(scores, known.astype(np.int8)))
        if name == "scenes":
            single = known.sum(axis=1) == 1
            best = scores[single].argmax(axis=1)
            found["top1"] = float(known[single][np.arange(single.sum()), best].mean())
    return found
