"""Measure what the checks of an index cost; `benchmarks.opening` is its command line."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console

from benchmarks.synthetic import write_annotations
from mlimagenet_data.annotations import index, index_files
from mlimagenet_data.annotations.schema import SCHEMA_VERSION
from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.files import parquet
from mlimagenet_data.files.reading import file_hash

_RECORDS = 20_000
console = Console()


class Spent:
    """Adds up the processor time spent in functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and counts as `name`; an iterator is exhausted at once."""

        def call(*args: Any) -> Any:
            begin = time.process_time()
            out = function(*args)
            if isinstance(out, Iterator):
                out = iter(list(out))
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - begin
            return out

        return call


def first_opening(folder: Path) -> dict[str, float]:
    """Build the index; return the time of all of it, and of each check."""
    spent = Spent()
    with contextlib.ExitStack() as stack:
        for name, owner, attribute in (
            ("hashes of the Parquet files", index._Source, "hashes"),
            ("page headers", parquet, "_declared"),
            ("checksums of records", index_files, "_checksums"),
            ("flushing to disk", index_files, "_sync"),
        ):
            stack.enter_context(mock.patch.object(owner, attribute, spent.timed(name, getattr(owner, attribute))))
        wall, begin = time.perf_counter(), time.process_time()
        AnnotationStore(folder, "train")
        total = {"build, wall_s": time.perf_counter() - wall, "build, processor_s": time.process_time() - begin}
    return total | {f"build, {name}, processor_s": seconds for name, seconds in spent.seconds.items()}


def page_checksums(folder: Path) -> dict[str, float]:
    """Read all pages with and without verifying their checksums."""
    import pyarrow.parquet as pq

    best = {True: float("inf"), False: float("inf")}
    for _ in range(3):
        for verified in (True, False):
            begin = time.process_time()
            for file in annotation_files(folder, "train"):
                for _ in pq.ParquetFile(file, page_checksum_verification=verified, pre_buffer=False).iter_batches(
                    20_000
                ):
                    pass
            best[verified] = min(best[verified], time.process_time() - begin)
    return {"pages, verified_s": best[True], "pages, not verified_s": best[False]}


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Open and read indices without checks."""
    with (
        mock.patch.object(index_files.IndexFiles, "_checked", lambda self, name: self._arrays[name]),
        mock.patch.object(index, "private_folder", lambda named, *_: named),
        mock.patch.object(index, "is_private", return_value=True),
    ):
        yield


def openings(folder: Path, repeats: int) -> dict[str, float]:
    """Open the dataset again and again; return the median time with and without checks."""
    times: dict[str, list[float]] = {"checked": [], "not checked": []}
    for _ in range(repeats):
        for name, context in (("checked", contextlib.nullcontext), ("not checked", unchecked)):
            with context():
                begin = time.process_time()
                MultiLabelImageNet(folder, loader=str, annotations=folder)
                times[name].append(time.process_time() - begin)
    return {f"open again, {name}_ms": 1e3 * statistics.median(seconds) for name, seconds in times.items()}


def records(folder: Path, repeats: int) -> dict[str, float]:
    """Read records at random; return the microseconds per record, and those of its checksum."""
    store = AnnotationStore(folder, "train")
    rows = np.random.default_rng(0).integers(0, len(store), _RECORDS).tolist()
    best = {"record": float("inf"), "its checksum": float("inf")}
    for _ in range(repeats):
        begin = time.process_time()
        for row in rows:
            store.record(row)
        middle = time.process_time()
        raws = [(row, store._index.read(row)) for row in rows]
        begin_sums = time.process_time()
        for row, raw in raws:
            zlib.crc32(raw, row)
        spent = {"record": middle - begin, "its checksum": time.process_time() - begin_sums}
        best = {name: min(best[name], seconds) for name, seconds in spent.items()}
    return {f"{name}_us": 1e6 * seconds / _RECORDS for name, seconds in best.items()}


def measure(folder: Path, rows: int, repeats: int) -> dict[str, float]:
    """Make annotations with a manifest, and return all figures."""
    write_annotations(folder, rows, 3, 0)
    listed = {file.name: {"sha256": file_hash(file)} for file in annotation_files(folder, "train")}
    manifest = {"schema_version": SCHEMA_VERSION, "splits": {"train": {"files": listed}}}
    (folder / "build_manifest.json").write_text(json.dumps(manifest))
    found = {"rows": rows} | first_opening(folder) | page_checksums(folder)
    found |= openings(folder, repeats) | records(folder, repeats=5)
    sizes = [path.stat().st_size for path in index.cache_folder().rglob("*") if path.is_file()]
    return found | {"index_mb": sum(sizes) / 1e6}


def run(args: argparse.Namespace) -> list[dict[str, float]]:
    """Run the benchmark and return its figures."""
    results = []
    for rows in args.rows:
        work = Path(tempfile.mkdtemp()) if args.work is None else args.work
        work.mkdir(parents=True, exist_ok=True)
        with mock.patch.dict(os.environ, {"MLIMAGENET_CACHE": str(work / "cache")}):
            results.append(measure(work / "set", rows, args.repeats))
        shutil.rmtree(work)
        console.print(*(f"{name:<50} {value:>14,.2f}" for name, value in results[-1].items()), sep="\n")
        checked, plain = (results[-1][f"open again, {kind}_ms"] for kind in ("checked", "not checked"))
        console.print(f"checks at opening again: {checked - plain:.2f} ms, {100 * (checked / plain - 1):.1f}%\n")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return results
