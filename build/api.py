"""Relabel images from Python: `from build import BuildConfig, relabel; report = relabel(BuildConfig(images="photos"))`."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.markup import escape

from build.config.options import STAGES, BuildConfig, ConfigError
from build.distributed import is_first_process, number_of_processes
from build.engines.runner import StageRun, run_stage
from build.images.demo import lay_out_demo
from build.progress import console
from build.stage import Stage
from build.stages.labeler import LabelerStage
from build.stages.labels import LabelsStage
from build.stages.publish import PublishStage
from build.stages.regions import RegionsStage
from build.state.ledger import changed_settings, read_json, remove_leftovers, write_json
from build.state.lock import sole_run
from build.state.manifest import read_manifest, refuse_imports
from build.state.plan import Plan, make_plan, remote_of
from build.status import StageProgress, count_statuses, find_faults, stage_progress
from build.tau import with_tau

__all__ = ["BuildReport", "SplitStatus", "relabel", "status", "verify"]

_STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (RegionsStage, LabelerStage, LabelsStage, PublishStage)
}


@dataclass(frozen=True)
class BuildReport:
    """The result of a run.

    Attributes:
        plan: Configuration, images, and where intermediate results are.
        stages: What each stage that ran did, in order.
        split: The split's part of `build_manifest.json`: rows, statuses, counts, hashes. Empty if nothing was published.
        seconds: Wall time.
    """

    plan: Plan
    stages: dict[str, StageRun]
    split: dict[str, Any]
    seconds: float

    @property
    def out(self) -> Path:
        """The dataset folder (of a remote output, its local working copy)."""
        return self.plan.config.folder

    @property
    def missing_rows(self) -> int:
        """Images without a row in the dataset: 0 for a build that lost nothing."""
        return len(self.plan.listing.images) - self.split["rows"] if self.split else 0


@dataclass(frozen=True)
class SplitStatus:
    """How far a split is, by the settings of its last run.

    Attributes:
        split: Its name.
        images: Number of images.
        stages: What is done and what a run would do, stage by stage.
        statuses: Number of images by status, in the shards that are done.
    """

    split: str
    images: int
    stages: list[StageProgress]
    statuses: dict[str, int]


def relabel(config: BuildConfig) -> BuildReport:
    """Relabel images and write the dataset; resume where an earlier run of the same settings stopped.

    Raises:
        ConfigError: If an option does not fit the images or the output, or another run is writing there.
        UnitsFailedError: If units failed too often; all others are done.
        MLImageNetError: If images or annotations are unusable; the message names the file.
        OSError: If a file cannot be read or written.
    """
    if number_of_processes() > 1 and config.stage != "labeler":
        raise ConfigError("stage: several processes (torchrun) can only train the labeler; pass --stage labeler")
    console.quiet = not is_first_process()
    if not is_first_process():
        return _run_stages(config)
    part = (config.shard_index, config.num_shards) if config.num_shards > 1 else None
    with sole_run(config.folder / ".build" / config.split, part, remote_of(config)) as stopped:
        if stopped:
            console.print(f"{stopped} did not finish; resuming", markup=False)
        if part is None:
            remove_leftovers(config.folder)
        return _run_stages(config)


def _run_stages(config: BuildConfig) -> BuildReport:
    start = time.perf_counter()
    refuse_imports(config.folder)
    images = str(lay_out_demo(config.folder / ".build" / "demo")) if config.demo else config.images
    plan = make_plan(config, images)
    _greet(plan)
    if config.stage in ("all", "regions"):
        plan = with_tau(plan)
    write_json(plan.work / "run.json", plan.config.as_dict())
    plan.push(plan.work / "run.json")
    names = STAGES if config.stage == "all" else (config.stage,)
    _check_earlier_stages(plan, names[0])
    if config.stage == "all":
        for state in stage_progress([_STAGES[name](plan) for name in names]):
            console.print(f"  {state}", markup=False)
    runs = {name: run_stage(_STAGES[name](plan)) for name in names}
    split = read_manifest(config.folder)["splits"][config.split] if "publish" in runs else {}
    return BuildReport(plan, runs, split, time.perf_counter() - start)


def status(out: str) -> list[SplitStatus]:
    """Return how far each split of a build is. Nothing is computed.

    Raises:
        ConfigError: If no build was started there.
    """
    found = []
    for stages in _last_runs(out):
        plan = stages[0].plan
        images = len(plan.listing.images)
        found.append(SplitStatus(plan.config.split, images, stage_progress(stages), count_statuses(plan)))
    return found


def verify(out: str) -> tuple[int, list[str]]:
    """Hash every file of a build, and return the number of units hashed and what is wrong: one line per file.

    Raises:
        ConfigError: If no build was started there.
    """
    units, faults = 0, dict[str, None]()  # each split's faults include those of all published files
    for stages in _last_runs(out):
        faults |= dict.fromkeys(find_faults(stages))
        units += sum(len(stage.plan.ledger(stage.name).entries()) for stage in stages)
    return units, list(faults)


def _last_runs(out: str) -> list[list[Stage]]:
    """Return the stages of each split of a build, with the settings of its last run."""
    found: list[list[Stage]] = []
    here = BuildConfig(out=out)
    if remote := remote_of(here):
        for split in remote.names(here.folder / ".build"):
            remote.pull(here.folder / ".build" / split / "run.json")
        remote.pull(here.folder / "build_manifest.json")
    known = {option.name for option in fields(BuildConfig)}  # an earlier version's run may have had others
    for path in sorted((here.folder / ".build").glob("*/run.json")):
        saved = {name: value for name, value in (read_json(path) or {}).items() if name in known}
        plan = make_plan(BuildConfig(**{**saved, "out": out, "work": None, "demo": False}), None)
        found.append([_STAGES[name](plan) for name in STAGES])
    if not found:
        raise ConfigError(f"{out}: no build was started there")
    return found


def _check_earlier_stages(plan: Plan, first: str) -> None:
    """Report options of this run that do not apply, because their stages do not run.

    Raises:
        ConfigError: If a unit of these stages is not done, or was made from other inputs than those there now.
    """
    for name in STAGES[: STAGES.index(first)]:
        stage = _STAGES[name](plan)
        settings = stage.settings()
        for unit in stage.units():
            entry = plan.entry(name, unit.file)
            changes = changed_settings(entry.settings, settings)
            if stage.fingerprint(unit, entry.settings) != entry.fingerprint:
                raise ConfigError(
                    f"stage {name} made {unit.file} from other images, or from other results of earlier stages, than those "
                    f"there now ({changes or 'same settings'}); run `--stage {name}` first, or `--stage all`"
                )
        if changes:
            console.print(f"[bold]{name}[/] does not run again and keeps its settings ({escape(changes)})")


def _greet(plan: Plan) -> None:
    images, ignored = plan.listing.images, plan.listing.ignored
    labelled = len(images) - images.table["label"].null_count
    console.print(
        f"{len(images)} images in {plan.listing.root}, {labelled} with an original label; {len(plan.shards)} shards",
        markup=False,
    )
    if ignored:
        kinds = ", ".join(f"{count} {kind}" for kind, count in ignored.most_common(5))
        console.print(f"ignored {sum(ignored.values())} files that are not images ({kinds})", markup=False)
