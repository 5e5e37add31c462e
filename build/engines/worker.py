"""What a worker does, in whatever process, on whatever machine: compute a unit and commit it."""

from __future__ import annotations

from build.config.options import BuildConfig
from build.state.plan import Plan, Stage, Unit, make_plan

__all__ = ["StageWorker", "run_unit"]


def run_unit(stage: Stage, unit: Unit) -> None:
    """Compute a unit and commit it."""
    settings = stage.settings()
    fingerprint = stage.fingerprint(unit, settings)
    output = stage.compute(unit, lambda count: None)
    stage.plan.ledger(stage.name).commit(unit.file, fingerprint, settings, output)


class StageWorker:
    """A stage with its model, in a process of its own.

    Args:
        stage_class: The stage.
        config: The run's configuration, with an absolute `out`; the list of images is read from there.
        threads: Of PyTorch on the CPU.
    """

    def __init__(self, stage_class: type[Stage], config: BuildConfig, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._plan: Plan = make_plan(config, None)
        self._stage = stage_class(self._plan)

    def run(self, unit: Unit) -> None:
        """Compute a unit and commit it."""
        run_unit(self._stage, unit)
