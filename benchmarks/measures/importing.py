"""Time and memory of an import; `benchmarks.importing` is its command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from benchmarks.synthetic import image_ids
from mlimagenet_data.classes import NUM_CLASSES


def write_lines(path: Path, count: int, seed: int) -> None:
    """Write a file in the paper's format: the original class first, scores in descending order."""
    generator = np.random.default_rng(seed)
    ids, labels = image_ids(count)
    with open(path, "w", encoding="utf-8") as file:
        for image_id, label in zip(ids, labels, strict=True):
            others = generator.choice(NUM_CLASSES - 1, generator.integers(0, 5), replace=False)
            classes = [label, *((label + 1 + others) % NUM_CLASSES).tolist()]
            scores = np.sort(generator.uniform(1e-4, 1, len(classes)))[::-1]
            cells = (",".join(map(str, classes)), ",".join(f"{score:.4f}" for score in scores))
            file.write(f"{image_id.partition('/')[2]}.JPEG\t{label}\t{cells[0]}\t{cells[1]}\n")


def measure(lines: int, seed: int = 0) -> dict[str, float]:
    """Return the rows, seconds and peak memory (MB) of an import, and the megabytes read and written."""
    with TemporaryDirectory() as work:
        source, out = Path(work) / "a.tsv", Path(work) / "set"
        write_lines(source, lines, seed)
        start, peak = time.perf_counter(), 0
        command = [
            sys.executable,
            "-m",
            "mlimagenet_data.cli",
            "import",
            str(source),
            "--from",
            "tsv",
            "--out",
            str(out),
        ]
        with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                try:
                    peak = max(peak, watched.memory_info().rss)
                except psutil.NoSuchProcess:
                    break
                time.sleep(0.02)
            assert process.stdout is not None
            rows = json.loads(process.stdout.read())["rows"]
        written = sum(path.stat().st_size for path in (out / "data").iterdir())
        return {
            "rows": rows,
            "seconds": round(time.perf_counter() - start, 2),
            "peak_mb": round(peak / 1e6),
            "read_mb": round(source.stat().st_size / 1e6, 1),
            "written_mb": round(written / 1e6, 1),
        }
