"""Processes that torchrun starts to train one labeler together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["is_first_on_machine", "is_first_process", "number_of_processes", "process_group", "wait_for_all"]


def number_of_processes() -> int:
    """Return the number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Return whether this process is the one that writes and prints."""
    return number_of_processes() == 1 or int(os.environ["RANK"]) == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the process group, if there is one, while the block runs; yield the device to train on."""
    if number_of_processes() == 1:
        yield device
        return
    import torch  # slow to import, and --help needs this module
    from torch import distributed

    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def is_first_on_machine() -> bool:
    """Return whether this is the first of the machine's processes."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def wait_for_all() -> None:
    """Return once all processes of the group have come here."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.barrier()
