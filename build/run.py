"""`python -m build.run`: relabel an image folder and write a multi-label, region-grounded dataset."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from build.config.command_line import arguments_of, configuration, parse
from build.config.options import STAGES, BuildConfig, ConfigError
from build.distributed import is_first_process, number_of_processes
from build.engines.runner import StageRun, run_stage
from build.engines.scheduler import UnitsFailedError
from build.images.demo import lay_out_demo
from build.images.listing import evenly_spaced
from build.images.sources import ImageReader
from build.progress import console
from build.stages.labeler import LabelerStage
from build.stages.labels import LabelsStage
from build.stages.publish import PublishStage
from build.stages.regions import RegionsStage
from build.state.ledger import changed_settings, read_json, remove_leftovers, write_json
from build.state.lock import sole_run
from build.state.manifest import read_manifest, refuse_imports
from build.state.plan import Plan, Stage, make_plan, remote_of
from build.state.status import StageProgress, failures, stage_progress, verify
from build.tau import with_tau
from mlimagenet_data.annotations.hub import prepare, push
from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.schema import USABLE_STATUSES
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import MLImageNetError
from mlimagenet_data.viewer.sheet import write_sheet

__all__ = ["main", "parse"]

_STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (RegionsStage, LabelerStage, LabelsStage, PublishStage)
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the build; return 0 if every input image has a row (or what was asked for is done), else 1."""
    try:
        given = arguments_of(arguments)
        for name, command in (("status", _status), ("verify", _verify)):
            if out := given.pop(name, None):
                return command(out)
        return _run(configuration(given))
    except (ConfigError, MLImageNetError, UnitsFailedError, OSError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        console.print("stopped; run the same command to go on")
        return 130


def _run(config: BuildConfig) -> int:
    if number_of_processes() > 1 and config.stage != "labeler":
        raise ConfigError(
            "stage: several processes (torchrun) can train the labeler, and nothing else: pass --stage labeler"
        )
    console.quiet = not is_first_process()
    if not is_first_process():
        return _run_stages(config)
    part = (config.shard_index, config.num_shards) if config.num_shards > 1 else None
    with sole_run(config.folder / ".build" / config.split, part, remote_of(config)) as stopped:
        if stopped:
            console.print(f"{stopped} was stopped before it was done; going on")
        if part is None:
            remove_leftovers(config.folder)
        return _run_stages(config)


def _run_stages(config: BuildConfig) -> int:
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
        _print_outlook(stage_progress([_STAGES[name](plan) for name in names]))
    runs: dict[str, StageRun] = {}
    for name in names:
        runs[name] = run_stage(_STAGES[name](plan))
    if "publish" not in runs:
        console.print(f"stage {config.stage} is done; the dataset is written by `--stage publish`")
        return 0
    split = read_manifest(config.folder)["splits"][config.split]
    _summary(plan, split, runs, time.perf_counter() - start)
    if config.demo:
        _print_rows(plan)
    if config.demo or config.sheet:
        _sheet(plan)
    if config.push_to_hub:
        _push(config)
    if split["rows"] != len(plan.listing.images):
        console.print(f"[bold red]error:[/] {len(plan.listing.images)} images, but {split['rows']} rows")
        return 1
    return 0


def _push(config: BuildConfig) -> None:
    assert config.push_to_hub is not None
    publication = prepare(config.folder, with_images=config.embed_images)
    address = push(publication, config.push_to_hub, private=config.hub_private, tag=config.hub_tag)
    console.print(f"published at {address}", markup=False)


def _last_runs(out: str) -> list[list[Stage]]:
    """Return the stages of each split of a build, with the settings of its last run."""
    found: list[list[Stage]] = []
    here = BuildConfig(out=out)
    if remote := remote_of(here):
        for split in remote.names(here.folder / ".build"):
            remote.pull(here.folder / ".build" / split / "run.json")
        remote.pull(here.folder / "build_manifest.json")
    for path in sorted((here.folder / ".build").glob("*/run.json")):
        config = BuildConfig(**{**(read_json(path) or {}), "out": out, "work": None})
        plan = make_plan(config, None)
        found.append([_STAGES[name](plan) for name in STAGES])
    if not found:
        raise ConfigError(f"{out}: no build was started there")
    return found


def _status(out: str) -> int:
    for stages in _last_runs(out):
        plan = stages[0].plan
        console.print(
            f"[bold]{out}[/], split {plan.config.split}: {len(plan.listing.images)} images, by the last run's settings"
        )
        _print_outlook(stage_progress(stages))
        counts = failures(plan)
        console.print("images: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    return 0


def _print_outlook(states: list[StageProgress]) -> None:
    for state in states:
        why = ", ".join(f"{count} {reason}" for reason, count in state.reasons.items())
        text = f"{state.done} of {state.units} units done" + (f"; to do: {why}" if why else "")
        console.print(f"  {state.stage:<8} {text}", markup=False)


def _verify(out: str) -> int:
    wrong = []
    for stages in _last_runs(out):
        wrong += verify(stages)
        entries = sum(len(stage.plan.ledger(stage.name).entries()) for stage in stages)
        console.print(f"{out}, split {stages[0].plan.config.split}: {entries} units hashed", markup=False)
    for fault in wrong:
        console.print(f"  {fault}", markup=False)
    console.print(
        "all files are what was written" if not wrong else f"{len(wrong)} files are not; a run does them again"
    )
    return 1 if wrong else 0


def _check_earlier_stages(plan: Plan, first: str) -> None:
    """Say which options of this run are not applied, because the stages they belong to are not run.

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
                    f"stage {name} made {unit.file} from other images, or from other results of the stages before it, than "
                    f"those there now ({changes or 'same settings'}); run `--stage {name}` first, or `--stage all`"
                )
        if changes:
            console.print(f"[bold]{name}[/] is not run again and keeps its settings ({changes})")


def _greet(plan: Plan) -> None:
    images, ignored = plan.listing.images, plan.listing.ignored
    labelled = sum(image.label is not None for image in images)
    console.print(
        f"{len(images)} images in {plan.listing.root}, {labelled} with an original label; {len(plan.shards)} shards",
        markup=False,
    )
    if ignored:
        kinds = ", ".join(f"{count} {kind}" for kind, count in ignored.most_common(5))
        console.print(f"{sum(ignored.values())} files that are no images are ignored ({kinds})")


def _summary(plan: Plan, split: dict[str, Any], runs: dict[str, StageRun], seconds: float) -> None:
    table = Table(title=f"{plan.config.out}, split {plan.config.split}", title_justify="left", show_header=False)
    readable = sum(split["statuses"].get(status, 0) for status in USABLE_STATUSES)
    table.add_row("rows", f"{split['rows']} for {len(plan.listing.images)} images")
    table.add_row("statuses", ", ".join(f"{name} {count}" for name, count in split["statuses"].items()))
    if readable:
        table.add_row("regions an image", f"{split['regions'] / readable:.2f}")
        table.add_row("labels an image", f"{split['labels'] / readable:.2f}")
    if split["with_original_label"]:
        found, total = split["original_label_found"], split["with_original_label"]
        table.add_row("original label found by itself", f"{found} of {total} ({100 * found / total:.1f}%)")
    table.add_row("labeler", split["labeler"]["path"].replace("_", " "))
    for name, run in runs.items():
        parts = ", ".join(f"{part} {spent:.1f}" for part, spent in split["seconds"][name].items())
        table.add_row(
            name, f"{run.seconds:.1f} s now, {run.units} units ({run.skipped} done before); seconds in all: {parts}"
        )
    table.add_row("what the regions stage waits for", split["regions_bottleneck"])
    table.add_row("this run", f"{seconds:.1f} s")
    console.print(table)
    for failure in split["failures"][:10]:
        console.print(f"  {failure['status']}: {failure['reason']}", markup=False)
    if len(split["failures"]) > 10:
        console.print(f"  ... and more, in {plan.config.out}/build_manifest.json")


def _records(plan: Plan, count: int) -> list[tuple[int, Record]]:
    """Return up to `count` readable rows, evenly spaced."""
    store = AnnotationStore(plan.config.folder, plan.config.split)
    return [(row, store.record(row)) for row in evenly_spaced(store.usable_rows().tolist(), count)]


def _print_rows(plan: Plan) -> None:
    names = imagenet_classes().names
    for _, record in _records(plan, len(plan.listing.images)):
        original = "none" if record.label is None else names[record.label]
        labels = ", ".join(f"{names[index]} {score:.2f}" for index, score in record.labels)
        console.print(
            f"{record.file_name.rpartition('/')[2]} (original label: {original}): {len(record.regions)} regions; {labels}"
        )


def _sheet(plan: Plan) -> None:
    records, reader = _records(plan, plan.config.sheet or len(plan.listing.images)), ImageReader(plan.listing.root)
    if not records:
        console.print("no picture sheet: no image could be read")
        return
    out = plan.config.out.rstrip("/")
    path = Path(f"{out.rpartition('/')[2] if plan.config.is_remote else out}-sheet.png")
    write_sheet(path, [(reader.image(plan.listing.images[row]), record) for row, record in records])
    console.print(f"picture sheet: {path}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    sys.exit(main())
