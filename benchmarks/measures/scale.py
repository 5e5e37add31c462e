"""Measure a build of many images without its networks; `benchmarks.scale` is its command line."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.synthetic import image_ids
from build.config.options import BuildConfig
from build.engines.runner import run_stage
from build.images.listing import SCHEMA as IMAGES
from build.images.listing import Images, Listing
from build.images.sources import list_images
from build.networks.backbone import Maps
from build.networks.embedded import EmbeddedBackbone
from build.networks.forward import Forward
from build.records import RegionsRow, table_of
from build.stages.labeler import LabelerStage
from build.stages.labels import LabelsStage
from build.stages.publish import PublishStage
from build.stages.regions import RegionsStage
from build.state.ledger import UnitOutput
from build.state.lock import sole_run
from build.state.output import open_output
from build.state.plan import Unit, make_plan, read_plan, write_listing
from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.files.reading import file_hash
from mlimagenet_data.files.single import check_new, write_new

REGIONS, DIMENSION, GRID = 3, 1280, (24, 24)
_LOGIT = 9.0  # of the class that a region shows
DISTINCT = 5000  # images with distinct features and masks, one row group; other images repeat them
console = Console()


class MadeUpRegions(RegionsStage):
    """The regions stage without networks or images."""

    made = None

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Assign each image of a unit one of DISTINCT made-up results."""
        self.made = self.made or _made_up(np.random.default_rng(0))
        listed = self.plan.images(unit)
        names = [{"image_id": i.image_id, "file_name": i.file_name, "label": i.label} for i in listed]
        rows = [RegionsRow(**self.made[k % DISTINCT], **name) for k, name in enumerate(names, unit.start)]
        table = table_of(rows, RegionsRow)
        facts = {
            "seconds": {}, "statuses": {"ok": len(rows)}, "regions": REGIONS * len(rows), "networks": [], "label_maps": {},
            "byproducts": {}, "dimension": DIMENSION, "solver": {}, "lost": [], "stamps": "",
        }  # fmt: skip
        advance(len(rows))
        return UnitOutput(len(rows), facts, lambda path: pq.write_table(table, path, compression="zstd"))


class NoNetwork:
    """A backbone with the same output for every image, on a grid of one cell, to time only the stage's own work."""

    name = source = licence = "none"

    def input_size(self, image: Image.Image) -> int:
        """Return a side of one pixel."""
        return 1

    def __call__(self, batch: torch.Tensor) -> Maps:
        """Return maps of one place."""
        patches, features, label_map = (torch.ones(len(batch), size, 1, 1) for size in (4, DIMENSION, NUM_CLASSES))
        return Maps(patches, (features,), (label_map,))


class NoOpRegions(RegionsStage):
    """The regions stage with NoNetwork in place of the embedded one."""

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Compute a shard."""
        if self._forward is None:
            self._forward = Forward(self.plan.config)
            self._forward._networks, self._forward._ensemble = [NoNetwork()], None
        return super().compute(unit, advance)


def make_list(out: Path, rows: int) -> None:
    """Write a list of images without listing files."""
    ids, labels = image_ids(rows)
    columns: dict[str, Any] = {"image_id": ids, "file_name": [f"{i}.JPEG" for i in ids], "label": labels}
    columns |= {name: np.zeros(rows, np.int64) for name in ("bytes", "modified_ns", "position", "changed_ns", "inode")}
    arrays = [
        pa.array(columns[kind.name], kind.type) if kind.name in columns else pa.nulls(rows, kind.type)
        for kind in IMAGES
    ]
    open_output(BuildConfig(images="made up", out=str(out)), [])
    write_listing(out / ".build" / "train", Listing(out, Images(pa.table(arrays, IMAGES))))


def _made_up(generator: np.random.Generator) -> list[dict[str, Any]]:
    """Return rows without names: elliptic regions, and features distributed like a classifier's."""
    ys, xs = np.mgrid[0 : GRID[0], 0 : GRID[1]]
    rows, (weight, _) = [], EmbeddedBackbone(64, torch.device("cpu")).head
    for _ in range(DISTINCT):
        masks = []
        for _ in range(REGIONS):
            y, x, a, b = generator.uniform((4, 4, 3, 3), (20, 20, 9, 9))
            masks.append(((ys - y) / a) ** 2 + ((xs - x) / b) ** 2 < 1)
        wanted = weight[generator.integers(0, len(weight), REGIONS + 1)]  # each region shows some class
        features = _LOGIT * wanted / (wanted**2).sum(axis=1, keepdims=True) + generator.normal(
            scale=0.1, size=wanted.shape
        )
        rows.append({
            "height": 375, "width": 500, "status": "ok", "grid": list(GRID), "counts": [encode_mask(m) for m in masks],
            "bbox": [[0.1, 0.1, 0.5, 0.5]] * REGIONS, "area": [float(m.mean()) for m in masks], "alignment": [0.5] * REGIONS,
            "clicked": [None] * REGIONS, "elsewhere": [[], [3], []], "features": features.astype("<f2").tobytes(),
            "variants": b"",
        })  # fmt: skip
    return rows


def stages(out: Path) -> dict[str, float]:
    """Run all stages, regions without networks; return seconds, sizes, and peak memory after the regions stage."""
    with sole_run(out / ".build" / "train") as lease:
        plan = read_plan(BuildConfig(out=str(out), labelled_reject=0), lease)  # made-up regions show nothing
        found: dict[str, float] = {"rows": len(plan.listing.images)}
        start = time.perf_counter()
        run_stage(MadeUpRegions(plan))
        found["regions_s"] = time.perf_counter() - start
    return found | apart("after_regions", out)


def after_regions(out: Path) -> dict[str, float]:
    """Run the stages after regions; return seconds, peak memory and sizes."""
    found: dict[str, float] = {}
    with sole_run(out / ".build" / "train") as lease:
        plan = read_plan(BuildConfig(out=str(out), labelled_reject=0), lease)  # made-up regions show nothing
        for stage in (LabelerStage, LabelsStage, PublishStage):
            start = time.perf_counter()
            run_stage(stage(plan))
            found[f"{stage.name}_s"] = time.perf_counter() - start
    start = time.perf_counter()  # of these seconds; each stage hashes what it reads
    for file in [*plan.ledger("regions").folder.glob("*.parquet"), *plan.ledger("labels").folder.glob("*.parquet")]:
        file_hash(file)
    found["of_these_hashing_s"] = time.perf_counter() - start
    found["peak_gb"] = peak_megabytes() / 1e3
    found["published_mb"] = sum(file.stat().st_size for file in (out / "data").iterdir()) / 1e6
    return found


def bookkeeping(folder: Path) -> dict[str, float]:
    """Run the regions stage on an image folder with a network that does nothing; return seconds and peak memory."""
    out = folder.with_name("no-network")
    with sole_run(out / ".build" / "train") as lease:
        plan = make_plan(BuildConfig(out=str(out), scan_size=0, batch_size=250), str(folder.parent), lease)
        start = time.perf_counter()
        run_stage(NoOpRegions(plan))
        found = {"no_network_s": time.perf_counter() - start}
    rows = sum(entry.rows for entry in plan.ledger("regions").entries().values())
    shutil.rmtree(out)
    return found | {"no_network_rows": rows, "no_network_gb": peak_megabytes() / 1e3}


def listing(folder: Path) -> dict[str, float]:
    """List an image folder; return seconds and memory."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak that the imports left
    before = peak_megabytes()
    start = time.perf_counter()
    rows = len(list_images(str(folder), split="train").images)
    return {"files": rows, "listing_s": time.perf_counter() - start, "listing_mb": peak_megabytes() - before}


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def make_links(folder: Path, count: int) -> Path:
    """Fill a folder tree with hard links to one small photograph."""
    folder.mkdir(parents=True)
    source = folder.with_name("image.JPEG")
    Image.new("RGB", (32, 24), (9, 90, 200)).save(source)
    content = source.read_bytes()
    for image_id in image_ids(count)[0]:
        path = folder / f"{image_id}.JPEG"
        path.parent.mkdir(exist_ok=True)
        if os.stat(source).st_nlink > 60_000:  # file systems allow some tens of thousands of links
            source.unlink()
            source.write_bytes(content)
        os.link(source, path)
    return folder


def apart(function: str, path: Path) -> dict[str, float]:
    """Call one of the functions above in a separate process."""
    command = [sys.executable, "-m", "benchmarks.scale", "--call", function, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


CALLS = {"stages": stages, "after_regions": after_regions, "listing": listing, "bookkeeping": bookkeeping}


def run(args: argparse.Namespace) -> None:
    """Measure, and print a table."""
    if args.call:
        print(json.dumps(CALLS[args.call[0]](Path(args.call[1]))))
        return
    if args.json:
        check_new(args.json)
    args.work.mkdir(parents=True)
    results = []
    for rows in args.rows:
        make_list(args.work / "out", rows)
        found = apart("stages", args.work / "out")
        shutil.rmtree(args.work / "out")
        links = make_links(args.work / "images" / "train", rows)
        found |= apart("listing", links) | apart("bookkeeping", links)
        shutil.rmtree(args.work / "images")
        results.append(found)
        console.print(found)
    shutil.rmtree(args.work)
    report(results)
    if args.json:
        write_new(args.json, lambda path: path.write_text(json.dumps(results, indent=1)))


def report(results: list[dict[str, float]]) -> None:
    """Print a table, and the growth of time with rows between the two largest runs."""
    table = Table(title="stages without networks, three regions per image; listing files")
    table.add_column("images")
    for found in results:
        table.add_column(f"{found['rows']:,}", justify="right")
    for name in [name for name in results[0] if name != "rows"]:
        table.add_row(name, *(f"{found[name]:,.2f}" for found in results))
    console.print(table)
    if len(results) > 1:
        first, last = results[-2], results[-1]  # the smallest one is mostly start-up
        for names in (("regions_s",), ("labels_s", "publish_s"), ("listing_s",), ("no_network_s",)):
            spent = [sum(found[name] for name in names) for found in (first, last)]
            exponent = np.log(spent[1] / spent[0]) / np.log(last["rows"] / first["rows"])
            console.print(
                f"{' + '.join(names)} grows as rows ** {exponent:.3f} from {first['rows']:,} to {last['rows']:,} rows"
            )
