"""The work of a worker, in any process and on any machine: compute a unit and commit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from build.config.options import BuildConfig
from build.distributed import is_first_process
from build.stage import Stage
from build.state.lock import Lease
from build.state.plan import Plan, Unit, read_plan

__all__ = ["StageWorker", "run_unit"]


def run_unit(stage: Stage, unit: Unit, advance: Callable[[int], None] = lambda count: None) -> None:
    """Compute a unit and commit it; under torchrun, only the first process commits."""
    settings = stage.settings()
    fingerprint = stage.fingerprint(unit, settings)
    output = stage.compute(unit, advance)
    if is_first_process():
        stage.plan.ledger(stage.name).commit(unit.file, fingerprint, settings, output)


class StageWorker:
    """A stage and its models, in a process of their own.

    Args:
        stage_class: The stage.
        config: The run's configuration, with an absolute `out`, from which the list of images is read.
        lease: The run's right to commit.
        threads: Number of PyTorch's CPU threads, and of those that decode images if `config.workers` is 0.
    """

    def __init__(self, stage_class: type[Stage], config: BuildConfig, lease: Lease | None, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._plan: Plan = read_plan(replace(config, workers=config.workers or threads), lease)
        self._stage = stage_class(self._plan)

    def run(self, unit: Unit) -> None:
        """Compute a unit and commit it."""
        run_unit(self._stage, unit)
