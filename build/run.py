"""`python -m build.run`: the command line around `build.api`."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from build.config.command_line import CommandLine, parse_verb, read_command_line
from build.config.options import BuildConfig, ConfigError
from build.distributed import is_first_process
from build.progress import console, styled
from build.state.last_run import kept_settings
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import ImageError, MLImageNetError
from mlimagenet_data.files.printing import guard_terminal
from mlimagenet_data.files.single import PICTURE_MARK, check_new, write_new

if TYPE_CHECKING:
    from PIL import Image

    from build.api import BuildReport
    from build.engines.runner import StageRun
    from build.state.plan import Plan
    from mlimagenet_data.annotations.records import Record

__all__ = ["main"]

_LABELERS = {
    "backbone_head": "the classifier's own head",
    "trained": "the classifier's head, trained further",
    "trained_from_nothing": "a head trained from scratch",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if every input image has a row (or the verb found nothing wrong), 1 if not, 130 if stopped."""
    if arguments is None:  # this process is the command
        guard_terminal()
        os.environ.setdefault(
            "OMP_WAIT_POLICY", "PASSIVE"
        )  # threads that wait must not spin: others use these CPUs, too
    try:
        if verb := parse_verb(arguments):
            name, out = verb
            return {"status": _print_status, "verify": _print_faults}[name](out)
        line = read_command_line(arguments)
        config = _with_kept_settings(line)
        if line.plan:
            return _print_forecast(config)
        if config.demo or config.sheet:
            check_new(_sheet(config), mark=PICTURE_MARK)
        if is_first_process():
            console.print("loading PyTorch ...")
        from build.api import relabel  # imports torch, which --help does not need

        return _print_report(relabel(config), verbose=line.verbose)
    except (ConfigError, MLImageNetError, OSError) as error:
        _print_error(str(error))
        return 1
    except KeyboardInterrupt:
        console.print("stopped; run the same command to resume")
        return 130


def _with_kept_settings(line: CommandLine) -> BuildConfig:
    """Return a command line's configuration with the settings of the output's last run where it gives none.

    Raises:
        ConfigError: If it does not say what to build.
    """
    if not {"images", "demo", "out"} & line.given:
        raise ConfigError(
            "images: pass --images SOURCE for a new build (--demo for an example), or --out DATASET to resume one; --help "
            "lists all options"
        )
    kept = kept_settings(line.config, line.given)
    if kept and is_first_process():
        defaults = BuildConfig()
        what = ", ".join(f"{name} {value} (default: {getattr(defaults, name)})" for name, value in sorted(kept.items()))
        console.print(f"settings kept from the last run: {what}; to change one, pass it")
    return replace(line.config, **kept)


def _print_error(reason: str) -> None:
    console.print(styled("error:", "bold red"), reason)


def _print_status(out: str) -> int:
    from build.api import status

    for split in status(out):
        facts = f"split {split.split}: {split.images} images, by the last run's settings"
        console.print(styled(f"{out},", "bold"), facts)
        for state in split.stages:
            console.print(f"  {state}")
        console.print("images: " + ", ".join(f"{name} {count}" for name, count in split.statuses.items()))
    return 0


def _print_faults(out: str) -> int:
    from build.api import verify

    units, faults = verify(out)
    console.print(f"{out}: {units} units hashed")
    for fault in faults:
        console.print(f"  {fault}")
    console.print(f"{len(faults)} files have changed; a run rebuilds them" if faults else "no file has changed")
    return 1 if faults else 0


def _print_forecast(config: BuildConfig) -> int:
    """Print what the build would take; return 1 if something that is missing would stop it."""
    console.print("loading PyTorch ...")
    from build.forecast import forecast

    found = forecast(config)
    table = Table(title=f"forecast for {config.out}, split {config.split}", title_justify="left", show_header=False)
    done = f", {found.done:,} done before" if found.done else ""
    table.add_row("images", f"{found.images:,}, {found.labelled:,} with an original label{done}")
    table.add_row("decoding", f"{found.decoding:.1f} images/s on the CPUs of a machine")
    unit = "GPU" if found.uses_gpus else "machine"
    table.add_row("networks", f"{found.networks:.1f} images/s a {unit}, measured on {found.sample} images")
    table.add_row(
        "workers", f"{found.machines} x {found.workers} {unit if found.machines * found.workers == 1 else unit + 's'}"
    )
    for name, seconds in found.seconds.items():
        table.add_row(name, _duration(seconds))
    total = sum(found.seconds.values())
    table.add_row("total", _duration(total))
    if found.uses_gpus:
        table.add_row("GPU-hours", f"{found.seconds['regions'] * found.machines * found.workers / 3600:.1f}")
    free = "" if found.free is None else f"; {_size(found.free)} free"
    disk = f"{_size(found.intermediates)} of intermediate results, {_size(found.dataset)} of dataset{free}"
    table.add_row("disk", disk)
    console.print(table)
    for line in found.missing:
        console.print(styled("missing:", "bold"), line)
    console.print("The labeler's training, if it trains one, comes on top; nothing was written to the output.")
    return 1 if found.stops else 0


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    """Return a duration in its natural unit."""
    for length, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _print_report(report: BuildReport, *, verbose: bool = False) -> int:
    config = report.plan.config
    if not report.split:
        console.print(f"stage {config.stage} is done; `--stage publish` writes the dataset")
        return 0
    _print_summary(report, verbose=verbose)
    if config.demo:
        _print_rows(report.plan)
    if config.demo or config.sheet:
        _draw_sheet(report.plan)
    _print_next_steps(report)
    if report.missing_rows:
        _print_error(f"{report.missing_rows} images have no row")
    return 1 if report.missing_rows else 0


def _print_next_steps(report: BuildReport) -> None:
    """Say how to look at the dataset and how to train on it."""
    config, root = report.plan.config, report.plan.listing.root
    if config.is_remote:
        return
    data, images, page = (shlex.quote(text) for text in (config.out, str(root), f"{config.out.rstrip('/')}-viewer"))
    if any(report.plan.listing.images.table["container"].unique().to_pylist()):  # no folder of image files
        shown = "" if config.embed_images else "    (regions on grey; with --embed-images, the images)"
        console.print(f"look at it:   mlimagenet view {data} --out {page}{shown}")
        console.print(
            f"train on it:  with_labels(images, {config.out!r}, split={config.split!r}); images: these, as a datasets.Dataset"
        )
        return
    console.print(f"look at it:   mlimagenet view {data} --images {images} --out {page}")
    names = f"{str(root)!r}, transform, split={config.split!r}, annotations={config.out!r}"
    console.print(f"train on it:  MultiLabelImageNet({names})")


def _print_summary(report: BuildReport, *, verbose: bool) -> None:
    from mlimagenet_data.annotations.schema import USABLE_STATUSES

    config, split = report.plan.config, report.split
    table = Table(title=f"{config.out}, split {config.split}", title_justify="left", show_header=False)
    readable = sum(split["statuses"].get(status, 0) for status in USABLE_STATUSES)
    table.add_row("rows", f"{split['rows']} for {len(report.plan.listing.images)} images")
    table.add_row("statuses", ", ".join(f"{name} {count}" for name, count in split["statuses"].items()))
    if readable:
        table.add_row("regions per image", f"{split['regions'] / readable:.2f}")
        table.add_row("labels per image", f"{split['labels'] / readable:.2f}")
    if split["with_original_label"]:
        found, total = split["original_label_found"], split["with_original_label"]
        table.add_row("original label confirmed", f"{found} of {total} ({100 * found / total:.1f}%)")
    table.add_row("labeler", _LABELERS[split["labeler"]["path"]])
    for name, run in report.stages.items():
        parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in split["seconds"][name].items())
        table.add_row(name, _spent(run) + (f"; all runs: {parts}" if verbose and parts else ""))
    if verbose:
        table.add_row("slowest part of the regions stage", split["regions_bottleneck"])
    table.add_row("this run", f"{report.seconds:.1f} s")
    console.print(table)
    for failure in split["failures"][:10]:
        console.print(f"  {failure['status']}: {failure['reason']}")
    if len(split["failures"]) > 10:
        console.print(f"  ... and more, in {config.out}/build_manifest.json")


def _spent(run: StageRun) -> str:
    """Return a stage's time and rate."""
    if not run.units:
        return "done before"
    rate = f" ({run.images / run.seconds:.1f} images/s)" if run.images and run.seconds >= 1 else ""
    return f"{run.seconds:.0f} s{rate}" + (
        f", {run.skipped} of {run.units + run.skipped} parts done before" if run.skipped else ""
    )


def _records(plan: Plan, count: int) -> list[tuple[int, Record]]:
    """Return up to `count` readable rows, evenly spaced."""
    from build.images.listing import evenly_spaced
    from mlimagenet_data.annotations.store import AnnotationStore

    store = AnnotationStore(plan.config.folder, plan.config.split)
    return [(row, store.record(row)) for row in evenly_spaced(store.usable_rows().tolist(), count)]


def _print_rows(plan: Plan) -> None:
    names = imagenet_classes().names
    for _, record in _records(plan, len(plan.listing.images)):
        original = "none" if record.label is None else names[record.label]
        labels = ", ".join(f"{names[index]} {score:.2f}" for index, score in record.labels)
        name = record.file_name.rpartition("/")[2]
        text = f"{name} (original label: {original}): {len(record.regions)} regions; {labels}"
        console.print(text)


def _draw_sheet(plan: Plan) -> None:
    from build.images.reader import ImageReader
    from mlimagenet_data.annotations.sheet import write_sheet

    drawn: list[tuple[Image.Image, Record]] = []
    reader = ImageReader(plan.listing.root)
    for row, record in _records(plan, plan.config.sheet or len(plan.listing.images)):
        try:
            image = reader.image(plan.listing.images[row])
        except ImageError as error:  # read before, but no longer
            console.print(f"  not in the picture sheet: {error}")
            continue
        drawn.append((image, record))
    if not drawn:
        console.print("no picture sheet: no image could be read")
        return
    path = _sheet(plan.config)
    write_new(path, lambda temporary: write_sheet(temporary, drawn), mark=PICTURE_MARK)
    console.print(f"picture sheet: {path}")


def _sheet(config: BuildConfig) -> Path:
    """Return the path of the picture sheet."""
    out = config.out.rstrip("/")
    return Path(f"{out.rpartition('/')[2] if config.is_remote else out}-sheet.png")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    sys.exit(main())
