"""Time and memory of an import; `benchmarks.importing` is its command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.synthetic import HEIGHT, WIDTH, _blobs, image_ids
from mlimagenet_data.annotations.masks import encode_mask, stretch_mask
from mlimagenet_data.classes import NUM_CLASSES

_DISTINCT = 300  # masks
_JOBS = 8  # files that name masks


def labels_of(count: int, seed: int) -> Iterator[tuple[str, int, list[int], list[float]]]:
    """Yield file names, original classes, classes (the original one first) and scores in descending order."""
    generator = np.random.default_rng(seed)
    for image_id, label in zip(*image_ids(count), strict=True):
        others = generator.choice(NUM_CLASSES - 1, generator.integers(0, 5), replace=False)
        classes = [label, *((label + 1 + others) % NUM_CLASSES).tolist()]
        scores = np.sort(generator.uniform(1e-4, 1, len(classes)))[::-1].round(4)
        yield f"{image_id.partition('/')[2]}.JPEG", label, classes, scores.tolist()


def write_labels(folder: Path, count: int, form: str, seed: int = 0) -> Path:
    """Write a file in one of the paper's forms; return it."""
    if form == "tsv":
        with open(folder / "a.tsv", "w", encoding="utf-8") as file:
            for name, label, classes, scores in labels_of(count, seed):
                cells = (",".join(map(str, classes)), ",".join(f"{score:.4f}" for score in scores))
                file.write(f"{name}\t{label}\t{cells[0]}\t{cells[1]}\n")
        return folder / "a.tsv"
    columns = dict(
        zip(
            ("filename", "gt_index", "label_indices", "label_probs"),
            zip(*labels_of(count, seed), strict=True),
            strict=True,
        )
    )
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


def write_masks(folder: Path, count: int, each: int) -> tuple[Path, list[Path]]:
    """Write COCO JSON of masks, its images last, and the files that name them."""
    blobs = _blobs(np.random.default_rng(0), _DISTINCT, 0.3)
    codes = [encode_mask(stretch_mask(blob, HEIGHT, WIDTH)) for blob in blobs]
    names: list[dict[int, Any]] = [{} for _ in range(_JOBS)]
    with open(folder / "masks.json", "w", encoding="utf-8") as file:
        file.write('{"info": {}, "annotations": [')
        for number in range(count * each):
            code = {"size": [HEIGHT, WIDTH], "counts": codes[number % _DISTINCT]}
            item = {"id": number + 1, "image_id": number // each + 1, "category_id": 1, "segmentation": code}
            file.write(("," if number else "") + json.dumps(item))
            label = [(number + k) % NUM_CLASSES for k in range(5)]
            names[number * _JOBS // (count * each)][number + 1] = {"prob": [0.7, 0.1, 0.05, 0.02, 0.01], "label": label}
        images = (
            {"id": k + 1, "file_name": f"{image_id.partition('/')[2]}.JPEG", "height": HEIGHT, "width": WIDTH}
            for k, image_id in enumerate(image_ids(count)[0])
        )
        file.write('], "images": [' + ",".join(map(json.dumps, images)) + "]}")
    jobs = [folder / f"relabel_results_job_{k:03d}.pt" for k in range(_JOBS)]
    for job, found in zip(jobs, names, strict=True):
        torch.save(found, job)
    return folder / "masks.json", jobs


def measure(lines: int, *, form: str = "tsv", masks: int = 0) -> dict[str, Any]:
    """Return the rows, seconds and peak memory (MB) of an import, and the megabytes read and written."""
    with TemporaryDirectory() as work:
        sources = [write_labels(Path(work), lines, form)]
        options: list[str] = []
        if masks:
            proposals, jobs = write_masks(Path(work), lines, masks)
            options = ["--proposals", str(proposals), "--region-classes", *map(str, jobs)]
            sources += [proposals, *jobs]
        out, start, peak = Path(work) / "set", time.perf_counter(), 0
        command = [
            sys.executable,
            "-m",
            "mlimagenet_data.cli",
            "import",
            str(sources[0]),
            "--from",
            form,
            "--out",
            str(out),
        ]
        with subprocess.Popen([*command, *options, "--json"], stdout=subprocess.PIPE) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                try:
                    peak = max(peak, watched.memory_info().rss)
                except psutil.NoSuchProcess:
                    break
                time.sleep(0.02)
            assert process.stdout is not None
            split = json.loads(process.stdout.read())
        written = sum(path.stat().st_size for path in (out / "data").iterdir())
        return {
            "form": form,
            "rows": split["rows"],
            "regions": split["regions"],
            "seconds": round(time.perf_counter() - start, 2),
            "peak_mb": round(peak / 1e6),
            "read_mb": round(sum(path.stat().st_size for path in sources) / 1e6, 1),
            "written_mb": round(written / 1e6, 1),
        }
