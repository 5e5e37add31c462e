"""The status of a build: the units that are done, the units to do and why, and damaged files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from build.config.options import ConfigError
from build.stage import Stage
from build.state.ledger import Ledger, LedgerEntry
from build.state.manifest import read_manifest
from build.state.plan import Plan, Unit
from mlimagenet_data.errors import MLImageNetError

__all__ = ["StageProgress", "count_statuses", "find_faults", "stage_progress"]


@dataclass(frozen=True)
class StageProgress:
    """The status of one stage.

    Attributes:
        stage: Its name.
        units: Number of units.
        done: Units that are done and up to date.
        rows: Number of rows in these units.
        reasons: The number of units to do, by reason.
    """

    stage: str
    units: int
    done: int
    rows: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        why = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        return f"{self.stage:<8} {self.done} of {self.units} units done" + (f"; {why}" if why else "")

    @property
    def left(self) -> int:
        """Number of units to do."""
        return self.units - self.done


def stage_progress(stages: Sequence[Stage]) -> list[StageProgress]:
    """Return, stage by stage, what is done and what a run would do. Computes nothing."""
    out: list[StageProgress] = []
    for stage in stages:
        units, settings = stage.units(), stage.settings()
        ledger = stage.plan.ledger(stage.name)
        reasons, rows, done = Counter[str](), 0, 0
        waits = next((earlier.stage for earlier in out if earlier.done < earlier.units), None)
        for unit in units:
            try:
                reason = ledger.why_not_done(unit.file, stage.fingerprint(unit, settings), settings)
                reason = reason or stage.why_again(unit)
            except ConfigError:  # an earlier stage has not finished the unit's inputs
                reason = "not done yet"
            if reason is None and waits is not None:
                reason = f"if the output of {waits} changes"
            if reason is None:
                entry = ledger.entry(unit.file)
                rows, done = rows + (entry.rows if entry else 0), done + 1
            else:
                reasons[reason] += 1
        out.append(StageProgress(stage.name, len(units), done, rows, dict(reasons)))
    return out


def count_statuses(plan: Plan) -> dict[str, int]:
    """Return the number of images by status, in the finished shards of the regions stage."""
    entries = [plan.ledger("regions").entry(unit.file) for unit in plan.shards]
    total: Counter[str] = Counter()
    for entry in entries:
        total.update(entry.facts["statuses"] if entry else {})
    return dict(sorted(total.items()))


def find_faults(stages: Sequence[Stage]) -> list[str]:
    """Hash every file of a build, intermediate and published, and return the faults: one line per file.

    With the run's lease, the entries of damaged units are withdrawn. A unit that a later stage has used must be there.
    """
    plan, wrong = stages[0].plan, []
    used = {stage.name: [unit.file for unit in stage.units()] for stage in stages}
    for k, stage in enumerate(stages):
        ledger = plan.ledger(stage.name)
        later = any(plan.ledger(other.name).entries() for other in stages[k + 1 :])
        known = ledger.entries()
        for name, entry in known.items():
            if reason := ledger.fault(entry):
                wrong.append(f"{ledger.path(name)}: {reason}")
                if stage.plan.lease is not None:
                    stage.plan.ledger(stage.name).withdraw(name)
        wrong += [
            f"{ledger.path(unit.file)}: made from other images, or other results, than those listed"
            for unit in stage.units()
            if unit.file in known and not _is_of_plan(stage, unit, known[unit.file])
        ]
        if later:
            wrong += [f"{ledger.path(name)}: not finished" for name in used[stage.name] if name not in known]
    return wrong + _published_faults(stages)


def _is_of_plan(stage: Stage, unit: Unit, entry: LedgerEntry) -> bool:
    try:
        return stage.fingerprint(unit, entry.settings) == entry.fingerprint
    except ConfigError:  # an earlier stage has not finished the unit's inputs, which is reported there
        return True


def _published_faults(stages: Sequence[Stage]) -> list[str]:
    """Return how the published files differ from those that the publish stage made, and from the manifest."""
    plan, wrong = stages[0].plan, []
    out, made = plan.config.folder, plan.ledger("publish").entries()
    try:
        manifest = read_manifest(out)
    except MLImageNetError as error:
        return [str(error)]
    listed: dict[str, Any] = dict(_facts(manifest, "files"))
    for split in manifest["splits"].values():
        listed |= {f"data/{name}": facts for name, facts in _facts(split, "files").items()}
    listed |= {f"data/{name}": {"sha256": entry.sha256, "bytes": entry.size} for name, entry in made.items()}
    if made and plan.config.split not in manifest["splits"]:
        wrong.append(f"{out / 'build_manifest.json'}: does not list split {plan.config.split}, whose files are made")
    if plan.config.split in manifest["splits"]:
        ledger, units = plan.ledger("publish"), next(stage.units() for stage in stages if stage.name == "publish")
        wrong += [f"{ledger.path(unit.file)}: not finished" for unit in units if unit.file not in made]
    for name in listed:
        facts = _facts(listed, name)
        entry = LedgerEntry(name, facts.get("sha256", ""), facts.get("bytes", -1), 0, "", 0, {}, {})
        if reason := Ledger(out, plan.remote).fault(entry):
            wrong.append(f"{out / name}: {reason}")
    return wrong


def _facts(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}
