"""Compare the cost of labels that follow the crop with other approaches; `benchmarks.loader` is its command line."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.progress import track
from torch.utils.data import Dataset

from benchmarks.contenders import APPROACHES, BASE, CONTROL, LoaderInputs, image_id_of, make
from benchmarks.labelcost import label_costs
from benchmarks.probes import build_index, in_own_process, load_dense, measure_start, touch_in_workers, touch_store
from benchmarks.synthetic import image_ids, write_annotations, write_label_maps, write_photographs, write_table
from benchmarks.tables import judge, print_figures
from benchmarks.throughput import compare, differing_views, files_of
from mlimagenet_data.files.single import check_new, write_new

console = Console()


def run(given: list[str], args: argparse.Namespace) -> dict:
    """Run the benchmark with a command line, as given and as read; return its figures."""
    if args.json:
        check_new(args.json)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in DataLoader's workers
    try:
        with tempfile.TemporaryDirectory() as scratch:
            figures = _about(given, args) | _measure(args, Path(scratch))
    finally:
        torch.set_num_threads(threads)
    figures["targets"] = judge(figures)
    print_figures(figures, console)
    if args.json:
        text = json.dumps(figures, indent=1) + "\n"
        write_new(args.json, lambda path: path.write_text(text, encoding="utf-8"))
    return figures


def _about(given: list[str], args: argparse.Namespace) -> dict:
    """Return the machine, date, command and options of the run."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    machine = {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "worker_start_method": torch.multiprocessing.get_start_method(),
    }
    options = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    command = shlex.join(["python", "-m", "benchmarks.loader", *given])
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"machine": machine, "date": date, "command": command, "options": options}


def _measure(args: argparse.Namespace, scratch: Path) -> dict:
    before = os.environ.get("MLIMAGENET_CACHE")
    os.environ["MLIMAGENET_CACHE"] = os.fspath(scratch / "cache")
    try:
        inputs = _inputs(args, scratch)
        seen, throughput = _throughput(args, inputs)
        return {
            "images": {"origin": "made up" if args.images is None else "given", **seen},
            "throughput": throughput,
            "labels_us": label_costs(scratch / "labels", min(1000, args.rows), args.repeats, args.seed, console),
            "start": _start(inputs, seen["count"], scratch / "cache", args),
            "store": _store(args, scratch),
        }
    finally:
        os.environ.pop("MLIMAGENET_CACHE")
        if before is not None:
            os.environ["MLIMAGENET_CACHE"] = before


def _inputs(args: argparse.Namespace, scratch: Path) -> LoaderInputs:
    """Return the paths of the images and of each approach's labels, after generating the missing ones."""
    images, annotations = args.images, args.annotations
    if images is None:
        images, annotations = scratch / "images", scratch / "annotations"
        write_photographs(images / "train", image_ids(args.count)[0], args.seed)
        write_annotations(annotations, args.count, 3, args.seed)
    inputs = LoaderInputs(images, annotations, scratch / "labels.tsv", scratch / "maps")
    write_table(inputs.table, annotations)
    ids = [image_id_of(path) for path, _ in make(BASE, inputs).samples]
    write_label_maps(inputs.label_maps, ids, args.seed)
    return inputs


def _throughput(args: argparse.Namespace, inputs: LoaderInputs) -> tuple[dict, dict]:
    datasets = {name: make(name, inputs) for name in APPROACHES}
    files = _common_files(datasets)
    different = differing_views(datasets, files)
    seen = {
        "count": len(files),
        "files": {name: len(files_of(d)) for name, d in datasets.items()},
        "different": different,
    }
    options = {"repeats": args.repeats, "precision": args.precision, "seed": args.seed, "console": console}
    return seen, {
        str(workers): compare(datasets, files * args.passes, workers=workers, **options) for workers in args.workers
    }


def _common_files(datasets: dict[str, Dataset]) -> list[str]:
    """Return the files that all approaches have."""
    common = set.intersection(*(set(files_of(dataset)) for dataset in datasets.values()))
    if not common:
        raise SystemExit("--annotations: no row names a file in --images")
    return sorted(common)


def _start(inputs: LoaderInputs, count: int, cache: Path, args: argparse.Namespace) -> dict:
    """Return the start-up time and memory of each approach: medians over up to three processes."""
    names = [name for name in APPROACHES if name != CONTROL]
    found: dict[str, list[dict]] = {name: [] for name in names}
    for _ in track(range(min(3, args.repeats)), "start-up", console=console, transient=True):
        for name in names:
            found[name].append(in_own_process(measure_start, name, inputs, cache))
    medians = {
        name: {key: float(np.median([row[key] for row in rows])) for key in rows[0]} for name, rows in found.items()
    }
    return {"images": count, "approaches": medians}


def _store(args: argparse.Namespace, scratch: Path) -> dict:
    """Return the times and memory at `args.rows` rows."""
    with console.status(f"{args.rows} rows"):
        many, cache = write_annotations(scratch / "many", args.rows, 3, args.seed), scratch / "many-cache"
        built = in_own_process(build_index, many, cache)
        touched = in_own_process(touch_store, many, cache, args.touch, args.seed)
        workers = in_own_process(touch_in_workers, many, cache, args.touch, args.seed)
        some = write_annotations(scratch / "some", min(args.dense_rows, args.rows), 3, args.seed)
        write_table(scratch / "some.tsv", some)
        dense = in_own_process(load_dense, scratch / "some.tsv")
    dense |= {
        f"extrapolated_{unit}": dense[key] * args.rows / dense["rows"] for unit, key in (("s", "seconds"), ("mb", "mb"))
    }
    return {"build": built, "touch": touched, "workers": workers, "dense": dense}
