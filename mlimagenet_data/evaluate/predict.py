"""Inference over a set, in one process, or in several under torchrun that share the images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import EvaluationError, ImageError
from mlimagenet_data.evaluate.networks import Network
from mlimagenet_data.evaluate.predictions import Predictions
from mlimagenet_data.evaluate.sets.examples import EvaluationSet

__all__ = ["open_device", "predict"]

_AMP = {"cuda": torch.float16, "cpu": torch.bfloat16}
_FORMAT = torch.channels_last  # speeds up the embedded network on a CPU 1.8 (8 images) to 3 times (64)
LoadedBatch = tuple[list[int], torch.Tensor | None, list[tuple[int, str]]]


def open_device(name: str | None = None) -> torch.device:
    """Return a device by name; None selects this process's GPU, or the CPU without one.

    Raises:
        EvaluationError: If torch cannot use the device.
    """
    if name is None:
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:200]
        raise EvaluationError(f"--device {name}: {reason}") from error


def predict(
    network: Network, data: EvaluationSet, *, batch_size: int = 64, device: torch.device | None = None,
    amp: bool = False, workers: int = 0, progress: bool = False,
) -> Predictions | None:  # fmt: skip
    """Run a network on a set.

    Under torchrun, each of n processes takes every n-th image, so that none is processed twice; the first process
    gathers the results.

    Args:
        network: The network. It is moved to the device.
        data: The set.
        batch_size: Images per batch.
        device: Device to run on; None selects a GPU if available.
        amp: Use half precision (float16 on GPUs, bfloat16 elsewhere).
        workers: Number of processes that read images.
        progress: Show a progress bar if standard error is a terminal.

    Returns:
        The predictions in the first process, None in all others.

    Raises:
        EvaluationError: If the network's output does not have shape (B, 1000), or is not finite.
    """
    device = device or open_device()
    started = "RANK" in os.environ and not dist.is_initialized()
    if started:
        dist.init_process_group("gloo")  # only the results are exchanged
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = range(rank, len(data), world)
    logits = torch.full((len(mine), NUM_CLASSES), float("nan"))
    failures: list[tuple[int, str]] = []
    module = network.module.to(device, memory_format=_FORMAT)  # type: ignore[call-overload]
    loader: Any = DataLoader(
        _Images(network, data, mine), batch_size, num_workers=workers, collate_fn=_collate, pin_memory=device.type == "cuda"
    )  # fmt: skip
    for places, images, bad in _shown(loader, len(mine), progress and rank == 0):
        failures += bad
        if images is not None:
            logits[places] = _forward(
                module, images.to(device, non_blocking=True, memory_format=_FORMAT), amp, network.name
            )
    found = _gather(logits, failures, data, network.name, rank, world)
    if started:
        dist.destroy_process_group()
    return found


@torch.inference_mode()
def _forward(module: torch.nn.Module, images: torch.Tensor, amp: bool, name: str) -> torch.Tensor:
    with torch.autocast(images.device.type, _AMP.get(images.device.type), enabled=amp):
        out: Any = module(images)
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or out.shape[1] != NUM_CLASSES:
        found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise EvaluationError(f"--model {name}: the output is {found}; it must have shape (images, {NUM_CLASSES})")
    logits: torch.Tensor = out.float().cpu()
    if not logits.isfinite().all():
        raise EvaluationError(f"--model {name}: the logits are not finite{'; try without --amp' if amp else ''}")
    return logits


class _Images(Dataset[Any]):
    """Prepared images with their positions, or the reason why an image cannot be read."""

    def __init__(self, network: Network, data: EvaluationSet, rows: range) -> None:
        self._prepare, self._data, self._rows = network.prepare, data, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> tuple[int, torch.Tensor | str]:
        try:
            return place, self._prepare(self._data.load(self._rows[place]))
        except ImageError as error:
            return place, str(error)


def _collate(items: list[tuple[int, torch.Tensor | str]]) -> LoadedBatch:
    good = [(place, item) for place, item in items if isinstance(item, torch.Tensor)]
    bad = [(place, item) for place, item in items if isinstance(item, str)]
    return [place for place, _ in good], torch.stack([item for _, item in good]) if good else None, bad


def _shown(loader: Any, images: int, progress: bool) -> Iterator[LoadedBatch]:
    from tqdm import tqdm

    with tqdm(total=images, unit="image", disable=None if progress else True) as bar:  # None: only on a terminal
        for batch in loader:
            yield batch
            bar.update(len(batch[0]) + len(batch[2]))


def _gather(
    logits: torch.Tensor, failures: list[tuple[int, str]], data: EvaluationSet, name: str, rank: int, world: int
) -> Predictions | None:
    """Gather the results in the first process: process r has the images r, r + world, r + 2 world, ..."""
    named = [(rank + world * place, why) for place, why in failures]
    if world > 1:
        most = -(-len(data) // world)
        padded = torch.full((most, NUM_CLASSES), float("nan"))
        padded[: len(logits)] = logits
        parts = [torch.empty_like(padded) for _ in range(world)] if rank == 0 else None
        lists: list[Any] | None = [None] * world if rank == 0 else None
        dist.gather(padded, parts)
        dist.gather_object(named, lists)
        if parts is None or lists is None:
            return None
        logits = torch.stack(parts, 1).flatten(0, 1)[: len(data)]
        named = sorted(item for part in lists for item in part)
    return Predictions(np.asarray(logits.numpy()), name, [(data.examples[row].file, why) for row, why in named])
