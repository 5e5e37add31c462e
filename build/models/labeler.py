"""The labeler: a linear head on pooled region features, and its training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

__all__ = ["LinearHead", "train_head"]


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier of pooled features.

    Attributes:
        weight: (K, D) float32.
        bias: (K,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (R, K) logits of (R, D) features."""
        return np.asarray(features.astype(np.float32) @ self.weight.T + self.bias)

    def confusable(self, least: float) -> NDArray[np.bool_]:
        """Return (K, K) bool: which classes' weights, less their mean, have a cosine of at least `least`."""
        centred = self.weight - self.weight.mean(axis=0)
        unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        return np.asarray((unit @ unit.T >= least) | np.eye(len(unit), dtype=bool))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({"weight": np.ascontiguousarray(self.weight), "bias": np.ascontiguousarray(self.bias)}, path)

    @classmethod
    def load(cls, path: Path) -> LinearHead:
        """Read a safetensors file."""
        tensors = load_file(path)
        return cls(tensors["weight"], tensors["bias"])


Shard = tuple[NDArray[np.float32], NDArray[np.int64]]  # features (n, D) and classes (n,)


def train_head(
    start: LinearHead,
    shards: int,
    load: Callable[[int], Shard],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    temperature: float,
    on_epoch: Callable[[float], None] = lambda loss: None,
) -> LinearHead:
    """Train a head further, by cross-entropy of logits / temperature with AdamW.

    Args:
        start: The weights to start from.
        shards: Number of shards of training regions; each epoch visits them in a random order, with at most one in memory.
        load: Returns a shard's features and classes.
        epochs: Passes over all shards.
        learning_rate: AdamW's.
        batch_size: Regions a step; the last step of a shard may have fewer.
        seed: Of the order of shards and regions. The same seed gives the same head on the same machine.
        temperature: Logits are divided by it, as when they are read.
        on_epoch: Called with each epoch's mean loss.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    generator = np.random.default_rng(seed)
    head = nn.Linear(start.weight.shape[1], start.weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(start.weight))
        head.bias.copy_(torch.from_numpy(start.bias))
    optimiser = torch.optim.AdamW(head.parameters(), lr=learning_rate)
    for _ in range(epochs):
        losses = []
        for shard in generator.permutation(shards):
            features, classes = load(int(shard))
            order = generator.permutation(len(classes))
            for rows in _batches(order, batch_size):
                logits = head(torch.from_numpy(features[rows])) / temperature
                loss = nn.functional.cross_entropy(logits, torch.from_numpy(classes[rows]))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                losses.append(loss.item())
        if not np.isfinite(losses).all():
            raise FloatingPointError(
                f"the labeler's loss is not finite at learning rate {learning_rate}; try a lower one"
            )
        on_epoch(float(np.mean(losses)))
    return LinearHead(head.weight.detach().numpy(), head.bias.detach().numpy())


def _batches(order: NDArray[np.int64], size: int) -> Iterable[NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]
