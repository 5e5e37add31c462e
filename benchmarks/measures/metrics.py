"""Time and memory of exact average precision; `benchmarks.metrics` is its command line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.measures.scale import peak_megabytes
from mlimagenet_data.evaluate.metrics.ranking import class_average_precision, sample_average_precision
from mlimagenet_data.evaluate.predictions import probabilities
from mlimagenet_data.evaluate.report import evaluate
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example
from mlimagenet_data.files.single import check_new, write_new

CLASSES = 1000
POSITIVES = 1.23  # classes per image
KINDS = ("random", "ties", "softmax")


def make(kind: str, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (N, K) float32 and targets (N, K) int8."""
    generator = np.random.default_rng(0)
    scores = generator.random((images, CLASSES), np.float32)
    if kind == "ties":
        np.round(scores, 2, out=scores)
    elif kind == "softmax":
        scores *= 10
        scores = probabilities(scores, "softmax")
    targets = np.zeros((images, CLASSES), np.int8)
    rows = generator.integers(0, images, int(POSITIVES * images))
    targets[rows, generator.integers(0, CLASSES, len(rows))] = 1
    return scores, targets


def scikit_learn(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    from sklearn.metrics import average_precision_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without positives
        return average_precision_score(targets, scores, average=None)


def scikit_learn_samples(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    from sklearn.metrics import label_ranking_average_precision_score

    some = targets.any(axis=1)
    return np.array([label_ranking_average_precision_score(targets[some], scores[some])])


def whole_report(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    examples = [Example(str(k), tuple(np.flatnonzero(t).tolist()), (), k % CLASSES) for k, t in enumerate(targets)]
    examples = [e if e.valid else Example(e.file, (), (), e.original, "no class fits") for e in examples]
    report = evaluate(scores, EvaluationSet("random", Path(), examples, np.ones(CLASSES, np.bool_)))
    return np.array([report.map, report.map_samples])


APPROACHES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "classes, ours": class_average_precision,
    "classes, scikit-learn": scikit_learn,
    "images, ours": lambda scores, targets: np.array([np.nanmean(sample_average_precision(scores, targets))]),
    "images, scikit-learn": scikit_learn_samples,
    "whole report": whole_report,
}


def measure(approach: str, kind: str, images: int) -> dict[str, object]:
    """Run one approach in this process; return seconds, memory and values."""
    scores, targets = make(kind, images)
    APPROACHES[approach](scores[:50], targets[:50])  # triggers the imports
    Path("/proc/self/clear_refs").write_text("5")  # Linux: reset the peak
    before, start = peak_megabytes(), time.perf_counter()
    values = APPROACHES[approach](scores, targets)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "megabytes": peak_megabytes() - before, "values": np.nan_to_num(values).tolist()}


def apart(approach: str, kind: str, images: int) -> dict[str, object]:
    """Measure one approach in a separate process."""
    command = [sys.executable, "-m", "benchmarks.metrics", "--call", approach, kind, "--images", str(images)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def run(given: argparse.Namespace) -> None:
    """Measure, and print a table."""
    if given.call:
        print(json.dumps(measure(*given.call, given.images)))
        return
    if given.json:
        check_new(given.json)
    table = Table(
        title=f"{given.images} images, {CLASSES} classes, {CLASSES * given.images * 5 / 1e6:.0f} MB of arrays"
    )
    for name in ("scores", "average precision of", "seconds", "peak memory above the arrays", "largest difference"):
        table.add_column(name)
    results = []
    for kind in KINDS:
        found = {name: apart(name, kind, given.images) for name in APPROACHES}
        for name, figures in found.items():
            other = found.get(name.replace("ours", "scikit-learn"))
            same = "-"
            if other is not None and other is not figures:
                same = f"{np.abs(np.subtract(figures['values'], other['values'])).max():.1e}"
                same += f", {other['seconds'] / figures['seconds']:.0f} times as fast"
            table.add_row(kind, name, f"{figures['seconds']:.2f}", f"{figures['megabytes']:.0f} MB", same)
            results.append({"scores": kind, "of": name, **{k: v for k, v in figures.items() if k != "values"}})
    Console().print(table)
    if given.json:
        write_new(given.json, lambda path: path.write_text(json.dumps(results, indent=1)))
