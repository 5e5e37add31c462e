"""What 1.28 million annotated images cost: building and opening the index, memory of a process that reads them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.masks import encode_mask
from mlimagenet_data.schema import features, shard_name

_PROBE = """
import json, random, sys, time
from benchmarks.scale import private_megabytes
import mlimagenet_data.store, mlimagenet_data.labels, mlimagenet_data.viewport
from mlimagenet_data.labels import LabelPolicy, label_view, multi_hot
from mlimagenet_data.store import AnnotationStore
from mlimagenet_data.viewport import view_of_box
before = private_megabytes()
start = time.perf_counter()
store = AnnotationStore(sys.argv[1], "train")
opened = time.perf_counter() - start
after = private_megabytes()
policy, steps = LabelPolicy(), []
random.seed(0)
for part in range(4):
    for _ in range(int(sys.argv[2]) // 4):
        record = store.record(random.randrange(len(store)))
        multi_hot(label_view(record, policy, view_of_box(record.size, 30, 40, 200, 220)))
    steps.append(private_megabytes() - before)
print(json.dumps({"rows": len(store), "open_s": opened, "opened_mb": after - before, "touched_mb": steps}))
"""


def private_megabytes() -> float:
    """Return the memory that only this process has (USS), in MB, as Linux accounts for it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def _blob(generator: np.random.Generator, size: int) -> np.ndarray:
    ys, xs = np.mgrid[0:size, 0:size]
    y, x = generator.uniform(0.15, 0.85, 2) * size
    a, b = generator.uniform(0.08, 0.4, 2) * size
    return ((ys - y) / a) ** 2 + ((xs - x) / b) ** 2 < 1


def synthetic_rows(count: int, regions: int, size: int = 64, seed: int = 0) -> list[dict]:
    """Return rows with elliptic regions of random classes."""
    generator = np.random.default_rng(seed)
    rows = []
    for k in range(count):
        found = []
        for _ in range(regions):
            mask = _blob(generator, size)
            classes = generator.choice(1000, 5, replace=False).tolist()
            found.append({
                "mask": {"size": [size, size], "counts": encode_mask(mask)}, "bbox": [0.0, 0.0, 1.0, 1.0],
                "area": float(mask.mean()), "label": classes[0], "score": 0.9, "topk_labels": classes,
                "topk_scores": [0.9, 0.3, 0.1, 0.05, 0.01], "alignment": 0.5,
            })  # fmt: skip
        labels = [item["label"] for item in found]
        rows.append({
            "image_id": f"n01440764/n01440764_{k}", "file_name": f"n01440764/n01440764_{k}.JPEG", "label": 0, "height": 375,
            "width": 500, "labels": labels, "scores": [0.9] * len(labels), "regions": found, "status": "ok",
        })  # fmt: skip
    return rows


def write_rows(folder: Path, rows: int, regions: int) -> None:
    """Write `rows` rows: 1000 different ones, repeated under names of their own."""
    schema = features(imagenet_classes()).arrow_schema
    distinct = pa.Table.from_pylist(synthetic_rows(min(rows, 1000), regions), schema=schema)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    files = -(-rows // 200_000)
    for k in range(files):
        numbers = range(k * 200_000, min((k + 1) * 200_000, rows))
        table = distinct.take(np.array(numbers) % len(distinct))
        for column, ending in (("image_id", ""), ("file_name", ".JPEG")):
            names = pa.array([f"n01440764/n01440764_{number}{ending}" for number in numbers], pa.string())
            table = table.set_column(table.column_names.index(column), schema.field(column), names)
        pq.write_table(table, folder / "data" / shard_name("train", k, files), compression="zstd", row_group_size=5000)


def measure(folder: Path, cache: Path, touch: int) -> dict:
    """Return figures of building the index here and of opening and reading it in a fresh process."""
    from mlimagenet_data import AnnotationStore

    os.environ["MLIMAGENET_CACHE"] = str(cache)
    start = time.perf_counter()
    AnnotationStore(folder, "train")
    built = time.perf_counter() - start
    figures = _in_fresh_process(_PROBE, str(folder), str(touch))
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    parquet = sum(path.stat().st_size for path in (folder / "data").iterdir())
    return {**figures, "build_s": built, "index_mb": size / 2**20, "parquet_mb": parquet / 2**20}


def memory_of_dense_vectors(folder: Path, rows: int) -> dict:
    """Return what the vectors of a dict of dense vectors take at a folder's rows, and extrapolated to `rows`."""
    from benchmarks.contenders import dense_vectors
    from mlimagenet_data import AnnotationStore

    vectors = dense_vectors(AnnotationStore(folder, "train"))
    megabytes = sum(vector.nbytes for vector in vectors.values()) / 2**20
    return {"rows": len(vectors), "mb": megabytes, "extrapolated_mb": megabytes * rows / len(vectors)}


def _in_fresh_process(code: str, *arguments: str) -> dict:
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    return json.loads(result.stdout)


def label_microseconds(folder: Path, repeats: int = 7, samples: int = 3000) -> float:
    """Return the time of one image's target for a given box, masks included: the median over repeats."""
    from mlimagenet_data import AnnotationStore, LabelPolicy
    from mlimagenet_data.labels import label_view, multi_hot
    from mlimagenet_data.viewport import view_of_box

    store, policy = AnnotationStore(folder, "train"), LabelPolicy()
    generator = random.Random(0)
    rows = [generator.randrange(len(store)) for _ in range(samples)]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for row in rows:
            record = store.record(row)
            multi_hot(label_view(record, policy, view_of_box(record.size, 30, 40, 200, 220)))
        times.append((time.perf_counter() - start) / samples * 1e6)
    return float(np.median(times))
