"""What a build would take, from a trial on a few of its images: `python -m build.run ... --plan`.

The trial runs every stage, in a temporary folder. Nothing is written to the output.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from build.config.options import BuildConfig
from build.cpus import available_cpus
from build.engines.runner import cuda_devices, run_stage
from build.engines.worker import run_unit
from build.images.demo import lay_out_demo
from build.images.listing import Listing, evenly_spaced
from build.images.sources import list_images
from build.networks.forward import pick_device
from build.progress import console
from build.stages.labeler import LabelerStage
from build.stages.labels import LabelsStage
from build.stages.publish import PublishStage
from build.stages.regions import RegionsStage
from build.state.lock import sole_run
from build.state.output import open_output
from build.state.plan import Plan, Unit, read_plan, write_listing
from mlimagenet_data.labelling.label_maps import LabelMapError, read_label_map

__all__ = ["Forecast", "forecast"]

_SAMPLE = 48  # images of the trial, if that is more than four batches


@dataclass(frozen=True)
class Forecast:
    """What a build would take.

    Attributes:
        images: Number of images.
        labelled: Those with an original label.
        done: Images whose regions an earlier run has found; they are not counted below.
        sample: Images of the trial.
        machines: Parts that run on machines of their own (`--num-shards`).
        workers: GPUs of each machine, or 1 for a CPU.
        uses_gpus: Whether the networks run on GPUs.
        decoding: Images a second that the CPUs of one machine can decode and scale.
        networks: Images a second of one worker, decoding included.
        seconds: Wall time of each stage.
        intermediates: Bytes of the intermediate results.
        dataset: Bytes of the published shards.
        free: Free bytes where they go; None for a remote output.
        missing: What would stop the build, or is still to be downloaded, one sentence each.
        stops: Whether some of it would stop the build.
    """

    images: int
    labelled: int
    done: int
    sample: int
    machines: int
    workers: int
    uses_gpus: bool
    decoding: float
    networks: float
    seconds: dict[str, float]
    intermediates: float
    dataset: float
    free: float | None
    missing: tuple[str, ...]
    stops: bool


@dataclass(frozen=True)
class _Trial:
    images: int
    start: float  # seconds until the networks are ready
    decoding: float  # seconds of one thread per image
    regions: float  # wall seconds per image
    labels: float
    publish: float
    fixed: float  # seconds of the stages after regions that do not grow with the images
    intermediates: float  # bytes per image
    dataset: float


def forecast(config: BuildConfig) -> Forecast:
    """Run a trial on a few images and return what the whole build would take.

    Raises:
        ConfigError: If an option does not fit the images.
        MLImageNetError: If images are unusable; the message names the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        listing, done = _listing(config, Path(folder))
        missing, stops, usable = _missing(config, listing)
        size = min(len(listing.images), max(_SAMPLE, 4 * config.batch_size))
        console.print(f"trial: {size} of {len(listing.images)} images, all stages, in a temporary folder ...")
        trial = _try(usable, listing, size, Path(folder))
    gpus = pick_device(config.device).type == "cuda"
    workers = max(1, config.processes or len(cuda_devices())) if gpus else 1
    decoding = (config.workers or available_cpus()) / trial.decoding
    left = len(listing.images) - done
    rate = config.num_shards * min(workers / trial.regions, decoding)
    seconds = {
        "regions": trial.start + (left + config.calibrate_tau) / rate,
        "labels": left * trial.labels / (workers * config.num_shards),
        "publish": len(listing.images) * trial.publish,
        "rest": trial.fixed,
    }
    free = None if config.is_remote else float(shutil.disk_usage(_existing(config.folder)).free)
    needed = trial.intermediates * left + trial.dataset * len(listing.images)
    if free is not None and free < needed:
        missing.append(f"disk: {(needed - free) / 1e9:.1f} GB more than are free at {_existing(config.folder)}")
    labelled = len(listing.images) - listing.images.table["label"].null_count
    return Forecast(
        images=len(listing.images), labelled=labelled, done=done, sample=size, machines=config.num_shards, workers=workers,
        uses_gpus=gpus, decoding=decoding, networks=1 / trial.regions, seconds=seconds,
        intermediates=trial.intermediates * left, dataset=trial.dataset * len(listing.images), free=free,
        missing=tuple(missing), stops=stops or (free is not None and free < needed),
    )  # fmt: skip


def _listing(config: BuildConfig, folder: Path) -> tuple[Listing, int]:
    """Return the images, and the number of those that are done."""
    if config.demo:
        images = str(lay_out_demo(folder / "demo"))
    elif config.images is not None:
        images = config.images
    else:
        plan = read_plan(config)
        return plan.listing, _done(plan)
    listing = list_images(images, split=config.split, unlabelled=config.unlabelled, limit=config.limit)
    return listing, _done(Plan(config, listing, config.folder / ".build" / config.split, is_listed=True))


def _done(plan: Plan) -> int:
    if not plan.work.exists():
        return 0
    stage = RegionsStage(plan)
    settings, ledger = stage.settings(), plan.ledger(stage.name)
    return sum(
        unit.images
        for unit in stage.units()
        if ledger.why_not_done(unit.file, stage.fingerprint(unit, settings), settings) is None
    )


def _missing(config: BuildConfig, listing: Listing) -> tuple[list[str], bool, BuildConfig]:
    """Return what is missing, whether the build would stop, and the configuration of a trial without it."""
    said, stops = list[str](), False
    changes: dict[str, Any] = {}
    for network, option in (("backbone", "weights"), ("classifier", "classifier_weights")):
        name, weights = getattr(config, network), getattr(config, option)
        if name == "embedded" or weights == "random":
            continue
        if weights == "hub":
            if _is_cached(name):
                continue
            said.append(f"{network}: the weights of {name} are not on this machine; timm will download them")
        elif Path(weights).is_file():
            continue
        else:
            said.append(f"{option}: {weights} is not a file")
            stops = True
        changes[option] = "random"  # as fast
    for option in ("label_maps", "byproducts"):
        folder = getattr(config, option)
        if folder is not None and not Path(folder).is_dir():
            said.append(f"{option}: {folder} is not a folder")
            stops, changes[option] = True, None
    if config.label_maps is not None and "label_maps" not in changes:
        sample = evenly_spaced(listing.images, _SAMPLE)
        lacking = [image.image_id for image in sample if not _has_map(config.label_maps, image.image_id)]
        if lacking:
            said.append(f"label_maps: {len(lacking)} of {len(sample)} images looked at have none, such as {lacking[0]}")
    return said, stops, replace(config, **changes)


def _has_map(folder: str, image_id: str) -> bool:
    try:
        read_label_map(Path(folder), image_id)
    except LabelMapError:
        return False
    return True


def _is_cached(name: str) -> bool:
    """Return whether the Hub's files of a timm network are in the local cache."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    found = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    if found is None or not found.hf_hub_id:
        return True  # the trial says what is wrong
    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(found.hf_hub_id, file), str) for file in names)


def _try(config: BuildConfig, listing: Listing, size: int, folder: Path) -> _Trial:
    """Build a sample in a temporary folder, and time each part of it."""
    out = folder / "out"
    config = replace(
        config, out=str(out), work=None, images=str(listing.root), demo=False, limit=0, shard_size=max(size, config.shard_size),
        processes=1, engine="local", num_shards=1, shard_index=0, stage="all", calibrate_tau=0, sheet=0,
    )  # fmt: skip
    sample = replace(listing, images=listing.images.take(evenly_spaced(range(len(listing.images)), size)))
    open_output(config, [])
    loud, console.quiet = console.quiet, True
    try:
        with sole_run(out / ".build" / config.split) as lease:
            plan = Plan(config, sample, out / ".build" / config.split, lease, is_listed=True)
            write_listing(plan.work, sample)
            return _timed(plan)
    finally:
        console.quiet = loud


def _timed(plan: Plan) -> _Trial:
    stage, (unit,) = RegionsStage(plan), plan.shards
    moments = [time.perf_counter()]
    warm_up = Unit("warm-up", 0, min(plan.config.batch_size, unit.images))
    stage.compute(warm_up, lambda images: None)  # loads the networks, and compiles them
    moments.append(time.perf_counter())
    run_unit(stage, unit)
    moments.append(time.perf_counter())
    stage.close()
    regions = (moments[2] - moments[1]) / unit.images
    walls = [run_stage(kind(plan)).seconds for kind in (LabelerStage, LabelsStage, PublishStage)]
    facts = {name: plan.entry(name, unit.file).facts["seconds"] for name in ("regions", "labels")}
    published = [plan.entry("publish", each.file) for each in PublishStage(plan).units()]
    publishing = sum(entry.facts["seconds"]["publish"] for entry in published)
    shards = [plan.work / "publish" / each.file for each in PublishStage(plan).units()]
    return _Trial(
        images=unit.images,
        start=max(0.0, moments[1] - moments[0] - regions * warm_up.images),
        decoding=max(facts["regions"]["decode"] / unit.images, 1e-9),
        regions=regions,
        labels=facts["labels"]["labels"] / unit.images,
        publish=publishing / unit.images,
        fixed=max(0.0, sum(walls) - facts["labels"]["labels"] - publishing),
        intermediates=sum(_bytes_of(plan.work / name / unit.file) for name in ("regions", "labels")) / unit.images,
        dataset=sum(map(_bytes_of, shards)) / unit.images,
    )


def _bytes_of(path: Path) -> int:
    """Return the bytes of a Parquet file's columns; its footer does not grow with the rows."""
    found = pq.read_metadata(path)
    groups = [found.row_group(k) for k in range(found.num_row_groups)]
    return sum(group.column(k).total_compressed_size for group in groups for k in range(group.num_columns))


def _existing(path: Path) -> Path:
    """Return the closest folder of a path that exists."""
    return next(folder for folder in [path.absolute(), *path.absolute().parents] if folder.exists())
