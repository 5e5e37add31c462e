"""Compare MaskCut with the plain procedure; `benchmarks.maskcut` is its command line."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import scipy.linalg
import torch
from rich.console import Console
from rich.table import Table

from build.images.listing import evenly_spaced
from build.networks.embedded import EmbeddedBackbone
from build.networks.scaling import input_of
from build.ops.maskcut import maskcut, start_directions
from build.ops.ncut import Graph, affinity, second_vectors
from build.ops.reference import affinity as plain_affinity
from build.ops.reference import maskcut as plain_maskcut
from build.ops.rounds import Regions
from mlimagenet_data.errors import ImageError
from mlimagenet_data.files.single import check_new, write_new
from mlimagenet_data.images import IMAGE_EXTENSIONS, load_image

console = Console(width=170)
IMAGENET = 1_281_167
OPTIONS = {"num_regions": 3, "min_area": 0.01, "max_iou": 0.5}


def run(given: list[str], args: argparse.Namespace) -> dict:
    """Run the benchmark with a command line, as given and as read; return its figures."""
    if args.json:
        check_new(args.json)
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, Any] = {"about": _about(given, args), "grids": {}}
    for k, grid in enumerate(args.grids):
        count = max(args.count, args.agreement) if k == 0 else args.count
        features, forward = _features(args, grid, count)
        figures["grids"][str(grid)] = _grid(args, features, forward, everything=k == 0)
        _print_grid(grid, figures["grids"][str(grid)])
    features, _ = _features(args, args.grids[0], args.count)
    figures["growth"] = _growth(args, features)
    _print_all(figures)
    if args.json:
        text = json.dumps(figures, indent=1) + "\n"
        write_new(args.json, lambda path: path.write_text(text, encoding="utf-8"))
    return figures


def _about(given: list[str], args: argparse.Namespace) -> dict:
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"{os.cpu_count()} CPU cores"
    return {
        "command": " ".join(["python -m benchmarks.maskcut", *given]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": device, "machine": platform.machine(), "torch": torch.__version__, "scipy": scipy.__version__,
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def _features(args: argparse.Namespace, grid: int, count: int) -> tuple[torch.Tensor, float]:
    """Return (N, C, grid, grid) features on the CPU, and the seconds per image of their forward pass."""
    if args.images is None:
        return _blobs(count, grid), 0.0
    backbone = EmbeddedBackbone(16 * grid, torch.device(args.device))
    files = sorted(f for f in args.images.rglob("*") if f.suffix.lower() in IMAGE_EXTENSIONS)
    picks, out, spent = evenly_spaced(files, count), [], 0.0
    for file in picks:
        try:
            batch = input_of(backbone, load_image(file))[None]
        except ImageError as error:
            console.print(f"skipped: {error}")
            continue
        start = time.perf_counter()
        out.append(backbone(batch).patches.cpu())
        spent += time.perf_counter() - start
    return torch.cat(out), spent / len(out)


def _blobs(count: int, grid: int) -> torch.Tensor:
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.normal(size=(count, 64, 6, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(grid, grid), mode="bicubic")
    return smooth + 0.3 * torch.from_numpy(generator.normal(size=smooth.shape).astype(np.float32))


def _grid(args: argparse.Namespace, features: torch.Tensor, forward: float, *, everything: bool) -> dict:
    part = features[: args.count]
    plain = len(features) if everything else min(args.plain, len(part))
    eigen = _timed(args, lambda batch: _eigen(batch, args.tau), part, prepare=True)
    whole = _timed(args, lambda batch: maskcut(batch, tau=args.tau, **OPTIONS), part)
    start = time.perf_counter()
    expected = [plain_maskcut(image.numpy(), tau=args.tau, **OPTIONS) for image in features[:plain]]
    plain_s = (time.perf_counter() - start) / plain
    lapack = float(np.median([_lapack_seconds(image, args.tau) for image in part[: args.plain]]))
    same, total = _agreement(args, features[:plain], expected)
    n = features.shape[-1] ** 2
    return {
        "eigen_ms": eigen * 1e3, "lapack_ms": lapack * 1e3, "eigen_ratio": lapack / eigen, "maskcut_ms": whole * 1e3,
        "plain_ms": plain_s * 1e3, "maskcut_ratio": plain_s / whole, "forward_ms": forward * 1e3,
        "masks_the_same": same, "masks": total, "affinity_mb": n * n * _itemsize(features) / 2**20,
        "peak_mb": _peak_mb(args, part),
    }  # fmt: skip


def _itemsize(features: torch.Tensor) -> int:
    return affinity(features[:1, :, :2, :2].flatten(2).mT, 0.5).element_size()


def _eigen(prepared: tuple[Graph, torch.Tensor], tau: float) -> None:
    second_vectors(*prepared)


def _timed(args: argparse.Namespace, call: Callable, features: torch.Tensor, *, prepare: bool = False) -> float:
    """Return the median seconds per image over repeats."""
    device = torch.device(args.device)
    batches: list[Any] = [batch.to(device) for batch in features.split(args.batch)]
    if prepare:
        units = [torch.nn.functional.normalize(b.flatten(2).mT, dim=-1) for b in batches]
        alive = [torch.ones(u.shape[:2], dtype=torch.bool, device=device) for u in units]
        batches = [(Graph(affinity(u, args.tau), a), start_directions(u)) for u, a in zip(units, alive, strict=True)]
    call(batches[0])
    taken = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        for batch in batches:
            call(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) / len(features))
    return float(np.median(taken))


def _lapack_seconds(image: torch.Tensor, tau: float) -> float:
    rows = image.flatten(1).T.numpy().astype(np.float64)
    weights = plain_affinity(rows, np.zeros(len(rows), bool), tau)
    degrees = np.diag(weights.sum(axis=1))
    start = time.perf_counter()
    scipy.linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 2])
    return time.perf_counter() - start


def _agreement(args: argparse.Namespace, features: torch.Tensor, expected: list[list[np.ndarray]]) -> tuple[int, int]:
    """Return the number of matching masks (IoU >= 0.95, in the order found), and the number of masks."""
    found: list[Regions] = [maskcut(b.to(args.device), tau=args.tau, **OPTIONS) for b in features.split(args.batch)]
    masks = torch.cat([f.masks for f in found]).cpu().numpy()
    kept = torch.cat([f.kept for f in found]).cpu().numpy()
    same = total = 0
    for one, mine, keep in zip(expected, masks, kept, strict=True):
        total += max(len(one), int(keep.sum()))
        same += sum((a & b).sum() >= 0.95 * (a | b).sum() for a, b in zip(one, mine[keep], strict=False))
    return int(same), total


def _peak_mb(args: argparse.Namespace, features: torch.Tensor) -> float | None:
    """Return the peak device memory per image in MB, or None on the CPU."""
    if args.device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    batch = features[: args.batch].cuda()
    maskcut(batch, tau=args.tau, **OPTIONS)
    return torch.cuda.max_memory_allocated() / 2**20 / len(batch)


def _growth(args: argparse.Namespace, features: torch.Tensor) -> dict:
    """Return the milliseconds per image by number of regions and by batch size."""
    regions = {
        str(count): _timed(args, lambda b, n=count: maskcut(b, tau=args.tau, **{**OPTIONS, "num_regions": n}), features)
        for count in (1, 2, 4, 8)
    }
    sizes = {}
    for size in (1, 2, 4, 8, 16):
        one = argparse.Namespace(**{**vars(args), "batch": size})
        sizes[str(size)] = _timed(one, lambda b: maskcut(b, tau=args.tau, **OPTIONS), features)
    return {"regions_ms": {k: v * 1e3 for k, v in regions.items()}, "batch_ms": {k: v * 1e3 for k, v in sizes.items()}}


def _print_grid(grid: int, row: dict) -> None:
    console.print(
        f"{grid} x {grid}: eigen step {row['eigen_ms']:.1f} ms, LAPACK {row['lapack_ms']:.0f} ms "
        f"({row['eigen_ratio']:.0f} times); "
        f"three rounds {row['maskcut_ms']:.1f} ms, plain {row['plain_ms']:.0f} ms ({row['maskcut_ratio']:.0f} times); "
        f"{row['masks_the_same']} of {row['masks']} masks match"
    )


def _print_all(figures: dict) -> None:
    table = Table(title=f"{figures['about']['device']}: per image, and for 1,281,167 images")
    columns = ("grid", "eigen step", "against LAPACK", "MaskCut, 3 rounds", "against plain", "matching masks", "affinity",
               "forward pass", "cut, images/s", "hours, 1 device", "hours, 8 devices")  # fmt: skip
    for column in columns:
        table.add_column(column)
    for grid, row in figures["grids"].items():
        both = (row["maskcut_ms"] + row["forward_ms"]) / 1e3
        table.add_row(
            f"{grid} x {grid}", f"{row['eigen_ms']:.1f} ms", f"{row['eigen_ratio']:.0f} x", f"{row['maskcut_ms']:.1f} ms",
            f"{row['maskcut_ratio']:.0f} x", f"{row['masks_the_same']} of {row['masks']}", f"{row['affinity_mb']:.1f} MB",
            f"{row['forward_ms']:.0f} ms", f"{1e3 / row['maskcut_ms']:.0f}", f"{both * IMAGENET / 3600:.1f}",
            f"{both * IMAGENET / 3600 / 8:.1f}",
        )  # fmt: skip
    console.print(table)
    growth = figures["growth"]
    for name, row in (("rounds", growth["regions_ms"]), ("images per cut", growth["batch_ms"])):
        console.print(f"ms per image by {name}: " + ", ".join(f"{key}: {value:.1f}" for key, value in row.items()))
