"""`python -m build.run`: relabel an image folder and write a multi-label, region-grounded dataset."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape
from rich.table import Table

from build.config import STAGES, BuildConfig, ConfigError, from_mapping
from build.demo import lay_out_demo
from build.engines.local import StageRun, run_stage
from build.inputs import evenly_spaced
from build.ledger import changed_settings
from build.manifest import read_manifest
from build.plan import Plan, make_plan
from build.presets import PRESETS
from build.processes import is_first_process, number_of_processes
from build.progress import console
from build.stages.labeler import LabelerStage
from build.stages.labels import LabelsStage
from build.stages.publish import PublishStage
from build.stages.regions import RegionsStage, with_tau
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import MLImageNetError
from mlimagenet_data.images import load_image
from mlimagenet_data.schema import USABLE_STATUSES
from mlimagenet_data.store import AnnotationStore, Record
from mlimagenet_data.view import write_sheet

__all__ = ["main", "parse"]

_STAGES = {stage.name: stage for stage in (RegionsStage, LabelerStage, LabelsStage, PublishStage)}
_GROUPS = {
    "input": "what to relabel",
    "output": "what to write",
    "run": "how to run",
    "regions": "stage 1, regions",
    "labeler": "stage 2, labeler",
    "labels": "stage 3, labels",
    "publish": "stage 4, publish",
}
_DESCRIPTION = """\
Relabel an image folder without human labels.

Patch features of a frozen network are cut into object regions (MaskCut); regions that agree with the image's original
label can train a small labeler; the labeler names every region; an image's labels are its regions' classes. The result is
a Parquet dataset that load_dataset("mlimagenet") and mlimagenet_data.MultiLabelImageNet read.

A run that was stopped goes on where it was; a run with other settings does again what they change."""
_EPILOG = """\
examples:
  python -m build.run --demo                          eight photographs, about a minute, no download
  python -m build.run --images imagenet --out mlimagenet
  python -m build.run --images photos --unlabelled --sheet 30
  torchrun --nproc-per-node 4 -m build.run --out mlimagenet --stage labeler --head mlp
                                                      the labeler trained on four GPUs
  python -m build.run --out mlimagenet --stage labels --label-threshold 0.4
                                                      other labels from the regions found before"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m build.run",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="FILE.yaml", help="Options by the same names; those on the command line win."
    )
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="Settings that go together; options given by name win. paper: DINOv3 ViT-L/16 at 512 px. cutler: DINO ViT-B/8, tau "
        "0.15. dinov2: ViT-L/14, whose weights are under Apache-2.0. All need weights to be downloaded.",
    )
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    for option in fields(BuildConfig):
        meta = option.metadata
        arguments: dict[str, Any] = {"default": argparse.SUPPRESS}
        text = meta["help"].replace("%", "%%")
        if isinstance(option.default, bool):
            arguments["action"] = argparse.BooleanOptionalAction if option.default else "store_true"
        else:
            arguments["type"] = type(option.default) if option.default is not None else str
            arguments["metavar"] = (
                "{" + ",".join(meta["choices"]) + "}" if meta["choices"] else _metavar(option.default)
            )
        default = "" if option.default is None or option.default is False else f" (default: {_shown(option.default)})"
        groups[meta["group"]].add_argument(f"--{option.name.replace('_', '-')}", help=text + default, **arguments)
    return parser


def _metavar(default: Any) -> str:
    return {int: "N", float: "X"}.get(type(default), "NAME" if default is not None else "DIR")


def _shown(default: Any) -> str:
    return "on" if default is True else str(default)


def parse(arguments: Sequence[str] | None = None) -> BuildConfig:
    """Return the configuration of a command line and the file that its --config names.

    Raises:
        ConfigError: If an option is wrong.
    """
    given = vars(_parser().parse_args(arguments))
    source = given.pop("config", None)
    values: dict[str, Any] = dict(PRESETS.get(given.pop("preset", None) or "", {}))
    if source is not None:
        try:
            loaded = yaml.safe_load(Path(source).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"config: {source}: {error}") from error
        if not isinstance(loaded, dict):
            raise ConfigError(
                f"config: {source}: a mapping of options to values expected, found a {type(loaded).__name__}"
            )
        values.update(from_mapping(loaded, source))
    config = BuildConfig(**{**values, **given})
    if config.demo and config.images:
        raise ConfigError("demo: --demo and --images exclude each other")
    return config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the build; return 0 if every input image has a row (or the one stage asked for is done), else 1."""
    try:
        config = parse(arguments)
        return _run(config)
    except (ConfigError, MLImageNetError, FileNotFoundError, PermissionError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        console.print("stopped; run the same command to go on")
        return 130


def _run(config: BuildConfig) -> int:
    start = time.perf_counter()
    if number_of_processes() > 1 and config.stage != "labeler":
        raise ConfigError(
            "stage: several processes (torchrun) can train the labeler, and nothing else: pass --stage labeler"
        )
    console.quiet = not is_first_process()
    images = str(lay_out_demo(Path(config.out) / ".build" / "demo")) if config.demo else config.images
    plan = make_plan(config, images)
    _greet(plan)
    if config.stage in ("all", "regions"):
        plan = with_tau(plan)
    runs: dict[str, StageRun] = {}
    names = STAGES if config.stage == "all" else (config.stage,)
    _check_earlier_stages(plan, names[0])
    for name in names:
        runs[name] = run_stage(_STAGES[name](plan))
    if "publish" not in runs:
        console.print(f"stage {config.stage} is done; the dataset is written by `--stage publish`")
        return 0
    split = read_manifest(Path(config.out))["splits"][config.split]
    _summary(plan, split, runs, time.perf_counter() - start)
    if config.demo:
        _print_rows(plan)
    if config.demo or config.sheet:
        _sheet(plan)
    if split["rows"] != len(plan.listing.images):
        console.print(f"[bold red]error:[/] {len(plan.listing.images)} images, but {split['rows']} rows")
        return 1
    return 0


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


def _records(plan: Plan, count: int) -> list[Record]:
    """Return up to `count` readable rows, evenly spaced."""
    store = AnnotationStore(plan.config.out, plan.config.split)
    return [store.record(int(row)) for row in evenly_spaced(store.usable_rows().tolist(), count)]


def _print_rows(plan: Plan) -> None:
    names = imagenet_classes().names
    for record in _records(plan, len(plan.listing.images)):
        original = "none" if record.label is None else names[record.label]
        labels = ", ".join(f"{names[index]} {score:.2f}" for index, score in record.labels)
        console.print(
            f"{record.file_name.rpartition('/')[2]} (original label: {original}): {len(record.regions)} regions; {labels}"
        )


def _sheet(plan: Plan) -> None:
    records = _records(plan, plan.config.sheet or len(plan.listing.images))
    if not records:
        console.print("no picture sheet: no image could be read")
        return
    path = Path(f"{str(plan.config.out).rstrip('/')}-sheet.png")
    write_sheet(path, [(load_image(plan.listing.root / record.file_name), record) for record in records])
    console.print(f"picture sheet: {path}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    sys.exit(main())
