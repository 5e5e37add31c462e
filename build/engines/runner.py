"""Run a stage's units in this process, in several, or on a Ray cluster; skip those that are done."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, replace

from build.engines.scheduler import Pool, run_units
from build.engines.worker import run_unit
from build.progress import console, meter
from build.stage import Stage
from build.state.plan import Unit

__all__ = ["StageRun", "cuda_devices", "run_stage"]


@dataclass(frozen=True)
class StageRun:
    """The outcome of running a stage.

    Attributes:
        units: Units computed in this run.
        skipped: Units already done before.
        images: Images of the units computed.
        seconds: Wall time of this run.
    """

    units: int
    skipped: int
    images: int
    seconds: float


def run_stage(stage: Stage) -> StageRun:
    """Print what a stage has to do and why, then compute and commit every unit that is not done.

    Raises:
        UnitsFailedError: If units failed too often in workers; all other units are done.
    """
    start = time.perf_counter()
    config = stage.plan.config
    units = stage.units()
    own = units[config.shard_index :: config.num_shards]
    todo = _todo(stage, own)
    if todo:
        stage.check()
    try:
        with meter(stage.name, sum(unit.images for unit in todo)) as progress:
            pool = _pool(stage, len(todo)) if todo else None
            if pool is None:
                for unit in todo:
                    run_unit(stage, unit, progress.advance)
            else:
                on_done = lambda unit: progress.advance(unit.images)  # noqa: E731
                run_units(pool, todo, attempts=config.attempts, timeout=config.unit_timeout, on_done=on_done)
        if config.num_shards == 1:
            stage.finish()
    finally:
        stage.close()
    images = sum(unit.images for unit in todo)
    return StageRun(len(todo), len(own) - len(todo), images, time.perf_counter() - start)


def _todo(stage: Stage, own: list[Unit]) -> list[Unit]:
    """Return the units that are not done, and print the reasons."""
    ledger, settings = stage.plan.ledger(stage.name), stage.settings()
    todo, reasons = [], Counter[str]()
    for unit in own:
        reason = ledger.why_not_done(unit.file, stage.fingerprint(unit, settings), settings)
        reason = reason or stage.why_again(unit)
        if reason is not None:
            todo.append(unit)
            reasons[reason] += 1
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    what = f"{len(todo)} of {len(own)} units to do ({why})" if todo else f"nothing to do, all {len(own)} units are done"
    console.print(f"{stage.name}: {what}")
    return todo


def _pool(stage: Stage, units: int) -> Pool | None:
    """Return the workers to use, or None to use this process alone."""
    config = stage.plan.config
    if not stage.in_workers:
        return None
    if not config.is_remote:  # another machine may keep its working copy elsewhere
        stage.plan = replace(stage.plan, config=replace(config, out=str(config.folder.resolve())))
    if config.engine == "ray":
        from build.engines.ray_pool import RayPool

        return RayPool(stage, config.processes, config.address)
    devices = cuda_devices() if config.device != "cpu" else []
    count = min(config.processes or len(devices), units)
    if count <= 1:
        return None
    from build.engines.processes import ProcessPool

    return ProcessPool(stage, count, devices)


def cuda_devices() -> list[str]:
    """Return the visible CUDA devices, by the names that CUDA_VISIBLE_DEVICES takes: numbers, or UUIDs of GPUs and MIG parts."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(k) for k in range(count)] if named is None else [name.strip() for name in named.split(",")][:count]
