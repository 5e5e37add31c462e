"""Start-up time and private memory, each measured in a process of its own.

A server process imports everything once and forks a clean child for each measurement, so that imports are in no figure and
what one approach left behind is not in the next one's. Private memory is USS: what would be freed if the process ended. Pages
of mapped files count as private while no other process maps them.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from torch.utils.data import DataLoader, Dataset

from benchmarks.contenders import DenseVectors, LoaderInputs, make
from mlimagenet_data import AnnotationStore, MultiLabelImageNet

__all__ = ["build_index", "in_own_process", "load_dense", "measure_start", "touch_in_workers", "touch_store"]

_QUARTERS = 4


def in_own_process(function: Callable[..., dict], *arguments: Any) -> dict:
    """Return what a function of this module returns in a fresh process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def private_mb(process: int | None = None) -> float:
    """Return a process's private memory (USS) in MiB."""
    gc.collect()
    return psutil.Process(process).memory_full_info().uss / 2**20


def _worker_mb() -> list[float]:
    return [private_mb(child.pid) for child in multiprocessing.active_children()]


def measure_start(name: str, inputs: LoaderInputs, cache: Path) -> dict:
    """Return how long an approach takes to be there and to give a first batch from a worker, and the memory it takes."""
    os.environ["MLIMAGENET_CACHE"] = os.fspath(cache)
    before, start = private_mb(), time.perf_counter()
    dataset = make(name, inputs)
    made = time.perf_counter() - start
    after = private_mb()
    loader = DataLoader(
        dataset, 25, shuffle=True, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    start = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - start
    for _ in batches:
        pass
    (worker,) = _worker_mb()
    return {"make_s": made, "make_mb": after - before, "first_batch_s": first, "worker_mb": worker}


def build_index(annotations: Path, cache: Path) -> dict:
    """Return what building the index takes."""
    os.environ["MLIMAGENET_CACHE"] = os.fspath(cache)
    start = time.perf_counter()
    rows = len(AnnotationStore(annotations, "train"))
    return {
        "rows": rows,
        "build_s": time.perf_counter() - start,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "index_mb": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 2**20,
        "parquet_mb": sum(file.stat().st_size for file in (annotations / "data").iterdir()) / 2**20,
    }


def touch_store(annotations: Path, cache: Path, touch: int, seed: int) -> dict:
    """Return the time to open an index that is there, and the memory before, after, and while labels are computed."""
    os.environ["MLIMAGENET_CACHE"] = os.fspath(cache)
    before, start = private_mb(), time.perf_counter()
    store = AnnotationStore(annotations, "train")
    store_s = time.perf_counter() - start
    rows, store_mb = len(store), private_mb()
    del store  # a page that one process maps twice would count as shared
    start = time.perf_counter()
    dataset = MultiLabelImageNet(annotations, annotations=annotations)
    dataset_s = time.perf_counter() - start
    dataset_mb = private_mb()
    steps = []
    for part in _random_rows(rows, touch, seed):
        for row in part:
            dataset.labels_for(row, _crop(row))
        steps.append(private_mb())
    return {
        "rows": rows, "open_store_s": store_s, "open_dataset_s": dataset_s, "touched": touch,
        "before_mb": before, "store_mb": store_mb, "dataset_mb": dataset_mb, "touched_mb": steps,
    }  # fmt: skip


class _Labels(Dataset):
    """The labels of a crop of each image, without the image."""

    def __init__(self, dataset: MultiLabelImageNet) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        return self.dataset.labels_for(row, _crop(row))


def touch_in_workers(annotations: Path, cache: Path, touch: int, seed: int) -> dict:
    """Return the private memory of two DataLoader workers, at first and while they compute labels of random rows."""
    os.environ["MLIMAGENET_CACHE"] = os.fspath(cache)
    labels = _Labels(MultiLabelImageNet(annotations, annotations=annotations))
    rows = np.concatenate(_random_rows(len(labels), touch, seed)).tolist()
    batches = [rows[k : k + 50] for k in range(0, len(rows), 50)]
    loader = DataLoader(
        labels, batch_sampler=batches, num_workers=2, collate_fn=len, persistent_workers=True,
        multiprocessing_context="fork",
    )  # fmt: skip
    every, running = max(1, len(batches) // _QUARTERS), iter(loader)
    next(running)
    first, steps = _worker_mb(), []
    for k, _ in enumerate(running, 2):
        if k % every == 0:
            steps.append(_worker_mb())
    return {"first_mb": first, "touched_mb": steps}


def load_dense(table: Path) -> dict:
    """Return what the published loader's dict takes for a table."""
    before, start = private_mb(), time.perf_counter()
    rows = len(DenseVectors(table).vectors)
    return {"rows": rows, "seconds": time.perf_counter() - start, "mb": private_mb() - before}


def _random_rows(rows: int, touch: int, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, rows, touch // _QUARTERS).tolist() for _ in range(_QUARTERS)]


def _crop(row: int) -> tuple[int, int, int, int]:
    """Return a box that differs between rows."""
    return row % 97, row % 131, 120 + row % 150, 150 + row % 200
