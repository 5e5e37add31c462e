"""Time, memory and bytes of exports; `benchmarks.exporting` is its command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest import mock

from benchmarks.synthetic import write_annotations
from mlimagenet_data.annotations.store import AnnotationStore

__all__ = ["FORMS", "Export", "measure"]

FORMS = ("coco", "tsv", "csv")
# prints the process's peak memory in kB on standard error (Linux); getrusage's is at least that of the process that forked
_CALL = (
    "import re, sys; from mlimagenet_data.cli import main; code = main(sys.argv[1:]); "
    "print(*re.findall(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()), file=sys.stderr); sys.exit(code)"
)


class Export(NamedTuple):
    """One export: form, wall-clock seconds with the start of Python, peak memory and output in MB."""

    form: str
    seconds: float
    peak_mb: float
    output_mb: float


def measure(rows: int, shard_images: int | None = None) -> Iterator[Export]:
    """Yield the exports of made-up annotations.

    Args:
        rows: Number of rows.
        shard_images: Images per file; None writes one file.
    """
    with TemporaryDirectory() as work, mock.patch.dict(os.environ, {"MLIMAGENET_CACHE": f"{work}/cache"}):
        folder = write_annotations(Path(work, "set"), rows, 3, 0)
        AnnotationStore(folder, "train")  # builds the index
        for form in FORMS:
            yield _export(folder, Path(work, form), form, shard_images)


def _export(folder: Path, out: Path, form: str, shard_images: int | None) -> Export:
    more = [] if shard_images is None else ["--shard-images", str(shard_images)]
    command = [sys.executable, "-c", _CALL, "export", str(folder), str(out), "--to", form, *more]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    files = out.glob("train-*") if out.is_dir() else [out]
    size = sum(file.stat().st_size for file in files)
    return Export(form, seconds, int(done.stderr.splitlines()[-1]) / 1e3, size / 1e6)
