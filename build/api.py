"""Relabel images from Python: `from build import BuildConfig, relabel; report = relabel(BuildConfig(images="photos"))`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from build.config.options import STAGES, BuildConfig, ConfigError
from build.distributed import is_first_process, number_of_processes
from build.engines.runner import StageRun, run_stage
from build.images.demo import lay_out_demo
from build.images.listing import left_out_text
from build.images.listing_check import changes_since
from build.images.sources import input_paths
from build.progress import console
from build.stage import Stage
from build.stages.labeler import LabelerStage
from build.stages.labels import LabelsStage
from build.stages.publish import PublishStage
from build.stages.regions import RegionsStage
from build.state.last_run import LAST_RUN, read_last_run, write_last_run
from build.state.ledger import changed_settings
from build.state.lock import Lease, sole_run
from build.state.manifest import read_manifest
from build.state.output import open_output, sweep
from build.state.plan import Plan, make_plan, read_plan, remote_of
from build.status import StageProgress, count_statuses, find_faults, stage_progress
from build.tau import with_tau
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.errors import MLImageNetError, StateError
from mlimagenet_data.files.outputs import LOCK, MARKER, OutputFolder

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
    if config.limit and not (config.images or config.demo):
        raise ConfigError("limit: needs --images or --demo; without them, the list of the earlier run is used")
    console.quiet = not is_first_process()
    if not is_first_process():
        return _run_stages(config)
    existed = config.folder.exists()
    is_new = not config.is_remote and not (existed and any(config.folder.iterdir()))
    out = open_output(config, input_paths(config))
    try:
        return _relabel(config, out)
    except (ConfigError, MLImageNetError, OSError):
        if is_new:
            _leave_nothing(config, existed=existed)
        raise


def _leave_nothing(config: BuildConfig, *, existed: bool) -> None:
    """Remove what a run that did not come to a listing wrote into a new folder, unless another run is at work there."""
    work = config.folder / ".build"
    with suppress(ConfigError, OSError), sole_run(work / config.split):
        splits = {path.name for path in work.iterdir()} - {"demo"}
        if splits == {config.split} and not (work / config.split / "inputs.parquet").exists():
            shutil.rmtree(work)
            for name in (MARKER, LOCK):
                (config.folder / name).unlink(missing_ok=True)
            if not existed:
                config.folder.rmdir()  # not if others have put something there meanwhile


def _relabel(config: BuildConfig, out: OutputFolder) -> BuildReport:
    part = (config.shard_index, config.num_shards) if config.num_shards > 1 else None
    with sole_run(config.folder / ".build" / config.split, part, remote_of(config)) as lease:
        if lease.earlier:
            console.print(f"{lease.earlier} did not finish; resuming")
        if part is None:
            sweep(out, config.split)
        return _run_stages(config, lease)


def _run_stages(config: BuildConfig, lease: Lease | None = None) -> BuildReport:
    start = time.perf_counter()
    names = STAGES if config.stage == "all" else (config.stage,)
    plan = _plan(config, names, lease)
    _greet(plan)
    if "regions" in names:
        plan = with_tau(plan)
    if is_first_process():
        plan.push(write_last_run(plan.work, plan.config))
    _check_earlier_stages(plan, names[0])
    if config.stage == "all":
        for state in stage_progress([_STAGES[name](plan) for name in names]):
            console.print(f"  {state}")
    runs: dict[str, StageRun] = {}
    for name in names:
        if name == "publish":
            _check_readable(plan)
        runs[name] = run_stage(_STAGES[name](plan))
    split = read_manifest(config.folder)["splits"][config.split] if "publish" in runs else {}
    return BuildReport(plan, runs, split, time.perf_counter() - start)


def _plan(config: BuildConfig, names: Sequence[str], lease: Lease | None) -> Plan:
    """List the images; without --images, take the earlier run's listing, and check it if a stage needs the images.

    Raises:
        ConfigError: If that listing no longer holds.
    """
    if config.demo:
        return make_plan(config, str(lay_out_demo(config.folder / ".build" / "demo")), lease)
    if config.images is not None:
        return make_plan(config, config.images, lease)
    plan = read_plan(config, lease)
    needs_images = "regions" in names or ("publish" in names and config.embed_images)
    if needs_images or ("publish" in names and plan.listing.root.exists()):
        if changes := changes_since(plan.listing, content=config.check_content):
            raise ConfigError(f"images: the listing of the earlier run no longer holds: {changes}. Pass --images again")
    elif "publish" in names:
        console.print(f"{plan.listing.root} is not here; its listing is used unchecked")
    return plan


def _check_readable(plan: Plan) -> None:
    """Refuse to publish a build that could read no image.

    Raises:
        MLImageNetError: If none has a usable status.
    """
    statuses = count_statuses(plan)
    if not any(statuses.get(name) for name in USABLE_STATUSES):
        found = ", ".join(f"{count} {name}" for name, count in statuses.items())
        raise MLImageNetError(
            f"none of the images in {plan.listing.root} could be read ({found}); nothing is published. "
            f"{plan.config.out} keeps the reasons; make the files readable, and run the same command again"
        )


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

    The entries of damaged units are withdrawn, so that the next run makes them again, unless a run is at work.

    Raises:
        ConfigError: If no build was started there.
        StateError: If its listing or its settings are damaged.
    """
    units, faults = 0, dict[str, None]()  # each split's faults include those of all published files
    for stages in _last_runs(out):
        plan = stages[0].plan
        units += sum(len(stage.units()) for stage in stages)
        with ExitStack() as stack:
            with suppress(ConfigError, OSError):  # a run is at work, or the folder is read-only: only look
                lease = stack.enter_context(sole_run(plan.work, None, plan.remote))
                stages = [type(stage)(replace(plan, lease=lease)) for stage in stages]  # noqa: PLW2901
            faults |= dict.fromkeys(find_faults(stages))
    return units, list(faults)


def _last_runs(out: str) -> list[list[Stage]]:
    """Return the stages of each split of a build, with the settings of its last run."""
    found: list[list[Stage]] = []
    here = BuildConfig(out=out)
    if remote := remote_of(here):
        for split in remote.names(here.folder / ".build"):
            remote.pull(here.folder / ".build" / split / LAST_RUN)
        remote.pull(here.folder / "build_manifest.json")
    for path in sorted((here.folder / ".build").glob(f"*/{LAST_RUN}")):
        options = read_last_run(path)
        try:
            config = BuildConfig(**{**options, "out": out, "work": None, "demo": False})
        except (TypeError, ValueError) as error:
            raise StateError(f"{path}: damaged: {error}; delete it and run the same command again") from error
        plan = read_plan(config)
        found.append([_STAGES[name](plan) for name in STAGES])
    if not found:
        raise ConfigError(f"{out}: no build was started there")
    return found


def _check_earlier_stages(plan: Plan, first: str) -> None:
    """Report options of this run that do not apply, because their stages do not run.

    Raises:
        ConfigError: If a unit of these stages is not done, or was made from other inputs than those there now, or with
            other settings than the other units.
    """
    for name in STAGES[: STAGES.index(first)]:
        stage = _STAGES[name](plan)
        kept = plan.settings_of(name, stage.units())
        changes = changed_settings(kept, stage.settings())
        for unit in stage.units():
            if stage.fingerprint(unit, kept) != plan.entry(name, unit.file).fingerprint:
                raise ConfigError(
                    f"stage {name} made {unit.file} from other images, or from other results of earlier stages, than those "
                    f"there now ({changes or 'same settings'}); run `--stage {name}` first, or `--stage all`"
                )
        if changes:
            console.print(f"{name} does not run again and keeps its settings ({changes})")


def _greet(plan: Plan) -> None:
    listing, images = plan.listing, plan.listing.images
    labelled = len(images) - images.table["label"].null_count
    console.print(
        f"{listing.found} entries found in {listing.root}: {len(images)} images taken, {labelled} with an original label, "
        f"{listing.left_out.total()} left out; {len(plan.shards)} shards"
    )
    if listing.left_out:
        console.print(f"left out: {left_out_text(listing.left_out)}")
    if listing.faults:
        console.print(f"{listing.faults} of the images cannot be read; the first: {listing.first_fault}")
