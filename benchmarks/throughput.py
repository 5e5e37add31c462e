"""Samples/s of several datasets relative to the first, in interleaved repeats, with intervals."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.contenders import BASE, CONTROL

__all__ = ["compare", "differing_views", "files_of", "median_interval", "ratio_interval"]

BATCH = 25
LEAST_REPEATS = 10
_DRAWS = 4000  # bootstrap draws


class Interval(NamedTuple):
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float


class _Order(Sampler[int]):
    """A sampler with settable indices, so that all datasets read the same files in the same order."""

    def __init__(self) -> None:
        self.indices: Sequence[int] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class _Feed:
    """A dataset behind a DataLoader whose workers stay alive between epochs."""

    def __init__(self, dataset: Dataset, workers: int) -> None:
        self.place = {file: index for index, file in enumerate(files_of(dataset))}
        self.order = _Order()
        self.loader = DataLoader(
            dataset, BATCH, sampler=self.order, num_workers=workers, persistent_workers=workers > 0
        )

    def epoch(self, files: Sequence[str], seed: int) -> tuple[float, float]:
        """Read files in order; return the wall-clock seconds and the CPU seconds of this process."""
        self.order.indices = [self.place[file] for file in files]
        torch.manual_seed(seed)
        gc.collect()
        wall, used = time.perf_counter(), time.process_time()
        for _ in self.loader:
            pass
        return time.perf_counter() - wall, time.process_time() - used


def files_of(dataset: Dataset) -> list[str]:
    """Return `<class folder>/<file>` of each sample."""
    return ["/".join(path.split(os.sep)[-2:]) for path, _ in dataset.samples]


def differing_views(datasets: dict[str, Dataset], files: Sequence[str]) -> dict[str, list[str]]:
    """Return, for each dataset, the files whose transformed image differs from the first dataset's at the same seed."""
    seen: dict[str, list[torch.Tensor]] = {}
    for name, dataset in datasets.items():
        place = {file: index for index, file in enumerate(files_of(dataset))}
        seen[name] = []
        for seed, file in enumerate(files):
            torch.manual_seed(seed)
            seen[name].append(dataset[place[file]][0])
    return {
        name: [file for file, a, b in zip(files, seen[BASE], images, strict=True) if not torch.equal(a, b)]
        for name, images in seen.items()
    }


def compare(
    datasets: dict[str, Dataset], files: Sequence[str], *, workers: int, repeats: int, precision: float, seed: int,
    console: Console,
) -> dict:  # fmt: skip
    """Return each dataset's samples/s, and the ratio to the first's with a 95% bootstrap interval.

    A repeat is one epoch of each dataset, in a newly drawn order; all read the same files with the same crops. Repeats
    end once the control's interval is within 1 +- `precision`, or after `repeats`.
    """
    generator = np.random.default_rng((seed, workers))
    feeds = {name: _Feed(dataset, workers) for name, dataset in datasets.items()}
    for feed in feeds.values():  # start the workers, fill caches
        feed.epoch(files, seed)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in feeds}
    settled = False
    with Progress(console=console, transient=True) as progress:
        for repeat in progress.track(range(repeats), description=f"{workers} workers"):
            order = [files[k] for k in generator.permutation(len(files))]
            for name in generator.permutation(list(feeds)).tolist():
                taken[name].append(feeds[name].epoch(order, repeat))
            _, low, high = _ratios(taken, 0)[CONTROL]
            settled = repeat + 1 >= LEAST_REPEATS and 1 - precision <= low and high <= 1 + precision
            if settled:
                break
    return _figures(taken, len(files), settled, precision, cpu=workers == 0)


def _ratios(taken: dict[str, list[tuple[float, float]]], clock: int) -> dict[str, Interval]:
    base = np.array(taken[BASE])[:, clock]
    return {name: ratio_interval(base, np.array(pairs)[:, clock]) for name, pairs in taken.items()}


def _figures(
    taken: dict[str, list[tuple[float, float]]], count: int, settled: bool, precision: float, *, cpu: bool
) -> dict:
    """Return the figures, including CPU time only if this process does all the work."""
    wall, used = _ratios(taken, 0), _ratios(taken, 1)
    approaches = {}
    for name, pairs in taken.items():
        seconds = np.array(pairs)[:, 0]
        approaches[name] = {
            "samples_per_s": count / float(np.median(seconds)),
            "ratio": wall[name]._asdict(),
            "seconds": seconds.tolist(),
        }
        if cpu:
            approaches[name]["cpu_ratio"] = used[name]._asdict()
            approaches[name]["cpu_us_per_sample"] = float(np.median(np.array(pairs)[:, 1])) / count * 1e6
    return {
        "repeats": len(taken[BASE]),
        "samples_per_repeat": count,
        "settled": settled,
        "precision": precision,
        "approaches": approaches,
    }


def ratio_interval(base: np.ndarray, other: np.ndarray) -> Interval:
    """Return median(base) / median(other) and its 95% bootstrap interval; repeats are resampled in pairs."""
    picks = np.random.default_rng(0).integers(0, len(base), (_DRAWS, len(base)))
    ratios = np.median(base[picks], axis=1) / np.median(other[picks], axis=1)
    return Interval(float(np.median(base) / np.median(other)), *np.quantile(ratios, (0.025, 0.975)).tolist())


def median_interval(values: np.ndarray) -> Interval:
    """Return the median and its 95% bootstrap interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (_DRAWS, len(values)))
    return Interval(float(np.median(values)), *np.quantile(np.median(values[picks], axis=1), (0.025, 0.975)).tolist())
