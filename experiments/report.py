"""Tables and a plot of a comparison over seeds: means with 95% intervals, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.methods import Method

__all__ = ["Setting", "interval", "plot", "write_report"]

MARK = "<!-- tables: written by `python -m experiments.crop_labels` -->\n"
_KINDS = {
    "scratch": "A small network from scratch",
    "features": "A linear classifier on the embedded network's features",
}
_COLOURS = {"known": "#2563eb", "maps": "#d97706", "built": "#16a34a"}  # by source of labels
_MEASURES = {"scenes": "mAP, whole scenes", "crops": "mAP, crops", "top1": "top-1, one object"}


class Setting(NamedTuple):
    """The date, machine and options of a run."""

    day: str
    machine: str
    options: dict[str, Any]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half-width of Student's 95% interval, which is NaN for one value."""
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return float(array.mean()), math.nan
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return float(array.mean()), float(half)


def write_report(path: Path, results: dict[str, Any], methods: Sequence[Method], setting: Setting) -> None:
    """Write the tables below the mark of a Markdown file; keep the text above it."""
    above = path.read_text(encoding="utf-8").partition(MARK)[0] if path.exists() else "# Experiments\n\n"
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting.options.items())
    minutes = sum(sum(values["seconds"]) for found in results.values() for values in found.values()) / 60
    parts = [f"{setting.day}, {setting.machine}; {options}; {minutes:.0f} minutes of training.\n"]
    for kind, found in results.items():
        parts += [f"### {_KINDS[kind]}\n", _table(found, methods)]
    path.write_text(above + MARK + "\n" + "\n".join(parts), encoding="utf-8")


def plot(path: Path, results: dict[str, Any], methods: Sequence[Method]) -> None:
    """Plot mean average precision on whole scenes: seeds, mean and interval per method, one panel per network."""
    figure = Figure(figsize=(5 + 4 * len(results), 1 + 0.26 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (kind, found) in zip(panels, results.items(), strict=True):
        shown = [method for method in methods if method.name in found][::-1]
        for height, method in enumerate(shown):
            values, colour = found[method.name]["scenes"], _COLOURS[method.source]
            mean, half = interval(values)
            axes.errorbar(mean, height, xerr=half, fmt="o", color=colour, capsize=3, markersize=5)
            axes.plot(values, [height] * len(values), "|", color=colour, alpha=0.5)
        axes.set_yticks(range(len(shown)), [method.name for method in shown])
        axes.set(title=_KINDS[kind], xlabel=f"{_MEASURES['scenes']}: seeds, mean, 95% interval")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})


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
