"""Tables of a comparison over seeds: means with 95% intervals, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.methods import Method

__all__ = ["Setting", "interval", "write_report"]

MARK = "<!-- tables: written by `python -m experiments.crop_labels` -->\n"
_KINDS = {
    "scratch": "A small network from scratch",
    "features": "A linear classifier on the embedded network's features",
}
_MEASURES = {"scenes": "mAP, whole scenes", "crops": "mAP, crops", "top1": "top-1, one object"}


class Setting(NamedTuple):
    """What a run was: date, machine, options, and its seconds."""

    day: str
    machine: str
    options: dict[str, Any]
    seconds: float


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and half-width of Student's 95% interval; NaN for one value."""
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return float(array.mean()), math.nan
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return float(array.mean()), float(half)


def write_report(path: Path, results: dict[str, Any], methods: Sequence[Method], setting: Setting) -> None:
    """Write the tables below the mark of a Markdown file; what stands above it is left as it is."""
    above = path.read_text(encoding="utf-8").partition(MARK)[0] if path.exists() else "# Experiments\n\n"
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting.options.items())
    parts = [f"{setting.day}, {setting.machine}; {options}; {setting.seconds / 60:.0f} minutes.\n"]
    for kind, found in results.items():
        parts += [f"### {_KINDS[kind]}\n", _table(found, methods)]
    path.write_text(above + MARK + "\n" + "\n".join(parts), encoding="utf-8")


def _table(found: dict[str, Any], methods: Sequence[Method]) -> str:
    head = [
        "method",
        "rate",
        *(f"{text} ± 95%" for text in _MEASURES.values()),
        "mAP, whole scenes: against all labels of the image",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for method in methods:
        if method.name not in found:
            continue
        values = found[method.name]
        cells = [method.name, f"{values['rate']:g}", *(_cell(*interval(values[key])) for key in _MEASURES)]
        base = found["built: all labels of the image" if method.source == "built" else "all labels of the image"]
        differences = np.subtract(values["scenes"], base["scenes"])
        cells.append("-" if values is base else _signed(*interval(differences)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(mean: float, half: float) -> str:
    return f"{mean:.3f} ± {half:.3f}"


def _signed(mean: float, half: float) -> str:
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
