"""Plot of a comparison: a reliability diagram of the labels' scores, and F1 by number of true labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.compare.bootstrap import Estimate
from mlimagenet_data.evaluate.compare.label_sets import BY_COUNT
from mlimagenet_data.evaluate.compare.report import Comparison
from mlimagenet_data.files.single import PICTURE_METADATA

__all__ = ["plot"]

_BLUE, _GREY, _ORANGE = "#2563eb", "#a1a1aa", "#ea580c"
_KINDS = (("original", "original labels", _BLUE, -0.2), ("added", "added labels", _ORANGE, 0.2))
_TICKS = ("1", "2", "3", "4 or more")


def plot(found: Comparison, path: Path, dataset: str = "") -> None:
    """Write a PNG, titled with the dataset's name. Needs matplotlib.

    Raises:
        EvaluationError: If the comparison has no label sets.
    """
    from matplotlib.figure import Figure

    if not found.reliability:
        raise EvaluationError(f"{path}: the plot needs label sets, which {found.truth} does not have")
    figure = Figure(figsize=(11, 5), layout="constrained")
    figure.suptitle(f"{dataset} against {found.truth}, {found.images} images".strip(), fontsize="medium")
    axes: dict[str, Any] = figure.subplot_mosaic([["curve", "f1"], ["counts", "f1"]], height_ratios=[3, 1])
    _reliability(axes["curve"], axes["counts"], found)
    _by_count(axes["f1"], found)
    for one in (axes["curve"], axes["f1"]):
        one.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    for one in axes.values():
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png", metadata=PICTURE_METADATA)


def _reliability(curve: Any, counts: Any, found: Comparison) -> None:
    """Draw the share of right labels and the number of labels per bin of scores."""
    curve.plot([0, 1], [0, 1], color=_GREY, label="perfectly calibrated")
    for kind, name, colour, shift in _KINDS:
        bins = found.reliability[kind]
        some, width = bins.counts > 0, 1 / len(bins.counts)
        curve.plot(
            bins.confidence[some], bins.accuracy[some], "o-", color=colour, label=name, markersize=4, clip_on=False
        )
        middles = (np.arange(len(bins.counts)) + 0.5 + shift) * width
        counts.bar(middles[some], bins.counts[some], 0.4 * width, color=colour)
    curve.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    counts.set(xlabel="score", ylabel="labels", xlim=(0, 1), yscale="log")
    counts.set_ylim(bottom=0.5)


def _by_count(axes: Any, found: Comparison) -> None:
    """Draw F1 of images with 1, 2, 3, and 4 or more true labels, beside the single label's."""
    figures = [found.groups["labels"].figures[name] for name in BY_COUNT]
    places = np.arange(len(figures))
    single = [figure.baseline for figure in figures]
    for shift, estimates, name, colour in (
        (-0.2, [figure.value for figure in figures], "labels", _BLUE),
        (0.2, [one for one in single if one is not None], "single label", _GREY),
    ):
        heights, errors = _bars(estimates)
        axes.bar(places + shift, heights, 0.4, yerr=errors, color=colour, label=name, ecolor="black", capsize=3)
    axes.set_xticks(places, _TICKS)
    axes.set(xlabel="true labels per image", ylabel="F1", ylim=(0, 1))


def _bars(estimates: list[Estimate]) -> tuple[Any, Any]:
    """Return heights, and distances to the interval's ends; 0 where undefined."""
    table = np.nan_to_num(np.array(estimates))
    some = np.array([not np.isnan(one.low) for one in estimates])
    distances = [
        np.where(some, np.maximum(table[:, 0] - table[:, 1], 0), 0),
        np.where(some, np.maximum(table[:, 2] - table[:, 0], 0), 0),
    ]
    return table[:, 0], np.array(distances)
