"""What labels that follow the crop cost, side by side with other ways, in one run.

    python -m benchmarks.loader --images path/to/imagenet --annotations mlimagenet --json loader.json

Prints samples/s as ratios against torchvision's ImageFolder with the same transform, measured in interleaved rounds, beside a
same-against-same control; the time of the label computation alone; and time and memory at 1,281,167 synthetic rows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader

from benchmarks.contenders import contenders
from benchmarks.scale import label_microseconds, measure, memory_of_dense_vectors, write_rows

console = Console()


def epoch_seconds(dataset: torch.utils.data.Dataset, workers: int, seed: int) -> float:
    """Return the time of one pass over a dataset, worker start-up left out."""
    torch.manual_seed(seed)
    loader = DataLoader(dataset, 25, num_workers=workers, shuffle=True, prefetch_factor=2 if workers else None)
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def ratios(datasets: dict, workers: int, rounds: int, target: float) -> tuple[dict, bool]:
    """Return, for each dataset, samples/s against the first: median and 95% bootstrap interval over interleaved rounds.

    Stops early when the control's interval lies within +- target of 1; the second value says whether it did.
    """
    names = list(datasets)
    times: dict[str, list[float]] = {name: [] for name in names}
    settled = False
    for k in track(range(rounds), f"{workers} workers", console=console):
        order = names[k % len(names) :] + names[: k % len(names)]
        for name in order:
            times[name].append(epoch_seconds(datasets[name], workers, seed=k))
        low, high = interval(times, names[0], names[1])[1:]
        if k >= 9 and 1 - target <= low and high <= 1 + target:
            settled = True
            break
    base = len(datasets[names[0]]) / np.median(times[names[0]])
    out = {
        name: dict(zip(("ratio", "low", "high"), interval(times, names[0], name), strict=True)) for name in names[1:]
    }
    out[names[0]] = {"samples_per_s": float(base), "rounds": len(times[names[0]])}
    return out, settled


def interval(times: dict[str, list[float]], base: str, name: str) -> tuple[float, float, float]:
    """Return the median over rounds of base time / time, and its 95% bootstrap interval."""
    values = np.array(times[base]) / np.array(times[name])
    picks = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), (0.025, 0.975))
    return float(np.median(values)), float(low), float(high)


def machine() -> dict:
    """Return what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "date": datetime.date.today().isoformat(),
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="ImageNet-like folder")
    parser.add_argument("--annotations", type=Path, required=True, help="dataset built for it")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=30, help="most interleaved rounds (default: 30)")
    parser.add_argument("--precision", type=float, default=0.01, help="stop when the control lies within 1 +- this")
    parser.add_argument("--only", nargs="*", help="measure only these beside ImageFolder, e.g. --only ours")
    parser.add_argument("--rows", type=int, default=1_281_167, help="synthetic rows for the store")
    parser.add_argument("--touch", type=int, default=100_000, help="rows read at random for the memory figures")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict:
    """Run the benchmark and return its figures."""
    args = parse(arguments)
    figures: dict = {"machine": machine(), "command": "python -m benchmarks.loader", "throughput": {}}
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        os.environ["MLIMAGENET_CACHE"] = str(scratch / "cache")
        (scratch / "maps").mkdir()
        datasets = contenders(args.images, args.annotations, scratch / "maps")
        if args.only is not None:
            datasets = {name: d for name, d in datasets.items() if name.startswith("ImageFolder") or name in args.only}
        for workers in args.workers:
            found, settled = ratios(datasets, workers, args.rounds, args.precision)
            figures["throughput"][str(workers)] = {"settled": settled, **found}
            _print_throughput(workers, found, settled)
        write_rows(scratch / "labels", 1000, regions=4)
        figures["label_us"] = label_microseconds(scratch / "labels")
        console.print(f"label computation, 4 regions of 64 x 64: {figures['label_us']:.1f} us a sample")
        write_rows(scratch / "many", args.rows, regions=3)
        figures["store"] = measure(scratch / "many", scratch / "index", args.touch)
        write_rows(scratch / "some", min(20_000, args.rows), regions=3)
        figures["dense_vectors"] = memory_of_dense_vectors(scratch / "some", args.rows)
        _print_scale(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _print_throughput(workers: int, found: dict, settled: bool) -> None:
    base = found["ImageFolder"]
    note = "" if settled else "; the control did not settle: a ratio inside its interval cannot be told from 1"
    table = Table(
        title=f"{workers} workers, {base['rounds']} rounds, ImageFolder {base['samples_per_s']:.0f} samples/s{note}"
    )
    for column in ("approach", "samples/s against ImageFolder", "95% interval"):
        table.add_column(column)
    for name, row in found.items():
        if "ratio" in row:
            table.add_row(name, f"{row['ratio']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
    console.print(table)


def _print_scale(figures: dict) -> None:
    store, dense = figures["store"], figures["dense_vectors"]
    table = Table(title=f"{store['rows']} rows, 3 regions of 64 x 64 each", show_header=False)
    table.add_row("Parquet", f"{store['parquet_mb']:.0f} MB")
    table.add_row("index", f"{store['index_mb']:.0f} MB, built in {store['build_s']:.1f} s")
    table.add_row("opening a built index", f"{store['open_s']:.3f} s")
    table.add_row("private memory after opening", f"{store['opened_mb']:.1f} MB")
    steps = ", ".join(f"{step:.1f}" for step in store["touched_mb"])
    table.add_row("... while labels of random rows are computed", f"{steps} MB (after each quarter)")
    table.add_row(
        "a dict of dense vectors", f"{dense['extrapolated_mb']:.0f} MB, extrapolated from {dense['rows']} rows"
    )
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
