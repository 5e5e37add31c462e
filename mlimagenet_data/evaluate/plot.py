"""Plot of a report: accuracy by number of labels, and a reliability diagram."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlimagenet_data.evaluate.report import Report
from mlimagenet_data.files.single import PICTURE_METADATA

__all__ = ["plot"]

_BLUE, _GREY = "#2563eb", "#a1a1aa"


def plot(report: Report, path: Path, model: str = "") -> None:
    """Write a PNG, titled with the model's name. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(f"{model} on {report.data}, {report.evaluated} images".strip(), fontsize="medium")
    left, right = figure.subplots(1, 2)
    places = np.arange(len(report.by_labels))
    for shift, field, what, colour in (
        (-0.2, "accuracy", "best class correct", _BLUE),
        (0.2, "map_samples", "average precision", _GREY),
    ):
        heights = np.nan_to_num([getattr(group, field) for group in report.by_labels.values()])
        left.bar(places + shift, heights, 0.4, color=colour, label=what)
    left.set_xticks(places, [f"{name}\n({group.images})" for name, group in report.by_labels.items()])
    left.set(xlabel="labels per image (images)", ylabel="mean over images", ylim=(0, 1))
    found = report.calibration
    some, width = found.counts > 0, 1 / len(found.counts)
    middles = (np.arange(len(found.counts)) + 0.5) * width
    right.bar(middles[some], found.accuracy[some], 0.95 * width, color=_BLUE, label="best class correct")
    right.plot([0, 1], [0, 1], color=_GREY, label="perfectly calibrated")
    about = f"probability of the best class (expected calibration error {found.error:.3f})"
    right.set(xlabel=about, ylabel="share of images", xlim=(0, 1), ylim=(0, 1))
    for axes in figure.axes:
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png", metadata=PICTURE_METADATA)
