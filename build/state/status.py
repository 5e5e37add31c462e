"""Where a build stands: which units are done, which will be done again and why, which files are not what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from build.config.options import ConfigError
from build.stage import Stage
from build.state.ledger import Ledger, LedgerEntry
from build.state.manifest import read_manifest
from build.state.plan import Plan

__all__ = ["StageProgress", "count_statuses", "find_faults", "stage_progress"]


@dataclass(frozen=True)
class StageProgress:
    """One stage's state.

    Attributes:
        stage: Its name.
        units: Number of units, None while earlier stages decide on it.
        done: Units that are done and up to date.
        rows: Their rows.
        reasons: Why others must be done, with how many.
    """

    stage: str
    units: int
    done: int
    rows: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        why = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        return f"{self.stage:<8} {self.done} of {self.units} units done" + (f"; to do: {why}" if why else "")

    @property
    def left(self) -> int:
        """Number of units to do."""
        return self.units - self.done


def stage_progress(stages: Sequence[Stage]) -> list[StageProgress]:
    """Return what is done and what running the stages would do, in order. Nothing is computed."""
    out: list[StageProgress] = []
    for stage in stages:
        units, settings = stage.units(), stage.settings()
        ledger = stage.plan.ledger(stage.name)
        reasons, rows, done = Counter[str](), 0, 0
        waits = next((earlier.stage for earlier in out if earlier.done < earlier.units), None)
        for unit in units:
            try:
                reason = ledger.why_not_done(unit.file, stage.fingerprint(unit, settings), settings)
            except ConfigError:  # an earlier stage has not done what it depends on
                reason = "not done yet"
            if reason is None and waits is not None:
                reason = f"if what {waits} makes changes"
            if reason is None:
                entry = ledger.entry(unit.file)
                rows, done = rows + (entry.rows if entry else 0), done + 1
            else:
                reasons[reason] += 1
        out.append(StageProgress(stage.name, len(units), done, rows, dict(reasons)))
    return out


def count_statuses(plan: Plan) -> dict[str, int]:
    """Return the number of images by status, in the shards of the regions stage that are done."""
    entries = [plan.ledger("regions").entry(unit.file) for unit in plan.shards]
    total: Counter[str] = Counter()
    for entry in entries:
        total.update(entry.facts["statuses"] if entry else {})
    return dict(sorted(total.items()))


def find_faults(stages: Sequence[Stage]) -> list[str]:
    """Hash every file of a build again, intermediate and published, and return what is wrong: one line a file."""
    plan, wrong = stages[0].plan, []
    for stage in stages:
        ledger = plan.ledger(stage.name)
        for name, entry in ledger.entries().items():
            if reason := ledger.fault(entry):
                wrong.append(f"{ledger.path(name)}: {reason}")
    out = plan.config.folder
    published = Ledger(out / "data", plan.remote)
    for split in read_manifest(out)["splits"].values():
        for name, facts in split["files"].items():
            entry = LedgerEntry(name, facts["sha256"], facts["bytes"], facts["rows"], "", 0, {}, {})
            if reason := published.fault(entry):
                wrong.append(f"{published.path(name)}: {reason}")
    return wrong
