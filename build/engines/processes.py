"""A pool of worker processes on this machine, each with its own device."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from build.config.options import BuildConfig
from build.cpus import available_cpus
from build.engines.scheduler import Outcome, Pool
from build.engines.worker import StageWorker
from build.stage import Stage
from build.state.lock import Lease
from build.state.plan import Unit

__all__ = ["ProcessPool"]

_CONTEXT = multiprocessing.get_context("spawn")  # CUDA does not survive a fork


class _Worker(NamedTuple):
    process: Any
    pipe: Connection

    def __hash__(self) -> int:
        return hash(self.process.pid)


class ProcessPool(Pool):
    """A fixed number of processes, which share the CPUs; if there are CUDA devices, the k-th process sees the k-th one.

    Args:
        stage: The stage to run.
        count: Number of processes.
        devices: The CUDA devices, by the names that CUDA_VISIBLE_DEVICES takes.
    """

    def __init__(self, stage: Stage, count: int, devices: Sequence[str]) -> None:
        self._stage, self._count, self._devices = stage, count, devices
        self._workers: list[_Worker] = []
        self._started = itertools.count()

    def size(self) -> int:
        """Return the requested number of processes."""
        return self._count

    def start(self) -> _Worker:
        """Start a process."""
        ours, theirs = _CONTEXT.Pipe()
        device = self._devices[next(self._started) % len(self._devices)] if self._devices else None
        threads = max(1, available_cpus() // self._count)
        plan = self._stage.plan
        arguments = (theirs, type(self._stage), plan.config, plan.lease, threads, device)
        process = _CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def submit(self, worker: _Worker, unit: Unit) -> None:
        """Send a unit to a process."""
        worker.pipe.send(unit)

    def wait(self, seconds: float) -> list[Outcome]:
        """Wait for a message from a process, or for its end."""
        ready = wait([worker.pipe for worker in self._workers], timeout=seconds)
        found = []
        for worker in [w for w in self._workers if w.pipe in ready]:
            try:
                found.append(Outcome(worker, worker.pipe.recv()))
            except EOFError:
                worker.process.join()
                self._workers.remove(worker)
                found.append(Outcome(worker, f"its process exited with code {worker.process.exitcode}", is_lost=True))
        return found

    def stop(self, worker: _Worker) -> None:
        """Kill the process."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        if worker in self._workers:
            self._workers.remove(worker)


def _serve(
    pipe: Connection,
    stage_class: type[Stage],
    config: BuildConfig,
    lease: Lease | None,
    threads: int,
    device: str | None,
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    worker = None
    while True:
        try:
            unit = pipe.recv()
        except EOFError:  # the build has ended
            return
        try:
            worker = worker or StageWorker(stage_class, config, lease, threads)
            worker.run(unit)
            pipe.send(None)
        except Exception as error:  # noqa: BLE001 - any error belongs to this unit; the build reports it
            pipe.send(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """End this process when the build's does, however that ends: nobody is left to read its results."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
