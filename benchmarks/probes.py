"""Start-up time and private memory, each measured in a separate process.

A server process imports everything once and forks a clean child for each measurement. Figures therefore exclude imports
and leftovers of earlier approaches. Private memory is USS: the memory freed if the process ended. Pages of mapped files
count as private unless another process maps them.
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
    """Call a function of this module in a fresh process and return its result."""
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
    """Return an approach's time to create its dataset and to load a worker's first batch, and its memory."""
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
    """Return the time, memory and disk space of building the index."""
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
    """Return the time to open an existing index, and the memory before, after, and while computing labels."""
    os.environ["MLIMAGENET_CACHE"] = os.fspath(cache)
    before, start = private_mb(), time.perf_counter()
    store = AnnotationStore(annotations, "train")
    store_s = time.perf_counter() - start
    rows, store_mb = len(store), private_mb()
    del store  # a page that one process maps twice counts as shared
    start = time.perf_counter()
    dataset = MultiLabelImageNet(annotations, loader=str, annotations=annotations)
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
    """The labels of one crop per image, without the image."""

    def __init__(self, dataset: MultiLabelImageNet) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        return self.dataset.labels_for(row, _crop(row))


def touch_in_workers(annotations: Path, cache: Path, touch: int, seed: int) -> dict:
    """Return the private memory of two DataLoader workers, at the start and while they label random rows."""
    os.environ["MLIMAGENET_CACHE"] = os.fspath(cache)
    labels = _Labels(MultiLabelImageNet(annotations, loader=str, annotations=annotations))
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
    """Return the time and memory of loading a table into the published loader's dict."""
    before, start = private_mb(), time.perf_counter()
    rows = len(DenseVectors(table).vectors)
    return {"rows": rows, "seconds": time.perf_counter() - start, "mb": private_mb() - before}


def _random_rows(rows: int, touch: int, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, rows, touch // _QUARTERS).tolist() for _ in range(_QUARTERS)]


def _crop(row: int) -> tuple[int, int, int, int]:
    """Return a crop that depends on the row."""
    return row % 97, row % 131, 120 + row % 150, 150 + row % 200
