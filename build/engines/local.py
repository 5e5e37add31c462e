"""Runs a stage's units one after the other in this process, skipping those that are done."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from build.plan import Stage
from build.processes import is_first_process
from build.progress import console, meter

__all__ = ["StageRun", "run_stage"]


@dataclass(frozen=True)
class StageRun:
    """What running a stage came to.

    Attributes:
        units: Units computed now.
        skipped: Units that were done before.
        seconds: Wall time of this run.
    """

    units: int
    skipped: int
    seconds: float


def run_stage(stage: Stage) -> StageRun:
    """Compute and commit every unit of a stage that is not done, and say beforehand what will be done and why."""
    start = time.perf_counter()
    ledger = stage.plan.ledger(stage.name)
    units, settings = stage.units(), stage.settings()
    ledger.remove_others({unit.file for unit in units})
    todo = []
    reasons: Counter[str] = Counter()
    for unit in units:
        fingerprint = stage.fingerprint(unit, settings)
        reason = ledger.why_not_done(unit.file, fingerprint, settings)
        if reason is not None:
            todo.append((unit, fingerprint))
            reasons[reason] += 1
    if todo:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        console.print(f"[bold]{stage.name}[/]: {len(todo)} of {len(units)} units to do ({why})")
    else:
        console.print(f"[bold]{stage.name}[/]: nothing to do, all {len(units)} units are done")
    try:
        with meter(stage.name, sum(unit.images for unit, _ in todo)) as progress:
            for unit, fingerprint in todo:
                output = stage.compute(unit, progress.advance)
                if is_first_process():
                    ledger.commit(unit.file, fingerprint, settings, output)
        stage.finish()
    finally:
        stage.close()
    return StageRun(len(todo), len(units) - len(todo), time.perf_counter() - start)
