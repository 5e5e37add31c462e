"""Runs a network over a set, in one process or, under torchrun, in several that share the images."""

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
_FORMAT = torch.channels_last  # for the embedded network on a CPU 1.8 (8 images) to 3 times (64) as fast
LoadedBatch = tuple[list[int], torch.Tensor | None, list[tuple[int, str]]]


def open_device(name: str | None = None) -> torch.device:
    """Return a device by its name; None: this process's GPU, or the CPU where there is none.

    Raises:
        EvaluationError: If torch has no such device here.
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
    """Return a network's predictions on a set.

    Under torchrun each process takes every n-th image, so that none is seen twice, and the first one gathers all.

    Args:
        network: The network; it is moved to the device.
        data: The set.
        batch_size: Images at a time.
        device: Where it runs; None: a GPU if there is one.
        amp: Run in half precision (float16 on GPUs, bfloat16 elsewhere).
        workers: Processes that read images.
        progress: Show a progress bar, where standard error is a terminal.

    Returns:
        The predictions; None in all processes but the first.

    Raises:
        EvaluationError: If the network's output is not (B, 1000), or not finite.
    """
    device = device or open_device()
    started = "RANK" in os.environ and not dist.is_initialized()
    if started:
        dist.init_process_group("gloo")  # there is nothing to exchange but the results
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
        raise EvaluationError(f"--model {name}: its output is {found}; it must be (images, {NUM_CLASSES})")
    logits: torch.Tensor = out.float().cpu()
    if not logits.isfinite().all():
        raise EvaluationError(
            f"--model {name}: it gives logits that are not finite{'; try without --amp' if amp else ''}"
        )
    return logits


class _Images(Dataset[Any]):
    """Prepared images with their places, or the reason why one cannot be read."""

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
    """Bring all processes' results to the first one: process r has the images r, r + world, r + 2 world, ..."""
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
