"""Figures with bootstrap intervals over images, and paired differences.

A `Measure` maps weights of images to figures. A weight counts how often an image is drawn, so weights of 1 give the
figure itself. All measures of a comparison see the same draws, which pairs their differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Figure", "Group", "Measure", "additive", "estimate", "figures_of", "share"]

Array = NDArray[np.float64]
Measure = Callable[[Array], dict[str, Array]]  # (D, N) weights to figures, each (D,)
_BLOCK = 1 << 22  # weights to hold at a time: 32 MB


class Estimate(NamedTuple):
    """A value and its 95% bootstrap interval; NaN where undefined."""

    value: float
    low: float
    high: float


class Figure(NamedTuple):
    """One figure of a dataset.

    Attributes:
        value: The dataset's.
        baseline: The baseline's, None if it has no such figure.
        difference: The dataset's minus the baseline's, paired.
        other: The other dataset's, None without one.
        other_difference: The dataset's minus the other's, paired.
    """

    value: Estimate
    baseline: Estimate | None
    difference: Estimate | None
    other: Estimate | None
    other_difference: Estimate | None


class Group(NamedTuple):
    """Measures of the same kind.

    Attributes:
        name: `labels`, `scores`, `regions` or `crops`.
        dataset: Measure of the dataset.
        baseline: Measure of what it is compared with, None without.
        other: Measure of the other dataset, None without.
        baseline_name: What the baseline is.
    """

    name: str
    dataset: Measure
    baseline: Measure | None = None
    other: Measure | None = None
    baseline_name: str = "single label"


def share(part: Array, whole: Array) -> Array:
    """Return part / whole, NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def additive(counts: Array, figures: Callable[[Array], dict[str, Array]]) -> Measure:
    """Return the measure of figures that depend only on sums over images.

    Args:
        counts: (N, C), each image's counts.
        figures: Maps sums (D, C) to figures, each (D,).
    """
    return lambda weights: figures(weights @ counts)


def figures_of(
    groups: Sequence[Group],
    images: int,
    draws: int,
    seed: int,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, dict[str, Figure]]:
    """Return all figures, by group and name.

    Args:
        groups: The measures.
        images: Number N of images.
        draws: Number of bootstrap draws; 0 leaves the intervals undefined.
        seed: Seed of the draws.
        advance: Called with the number of draws since the last call; the images themselves count as one.
    """
    measures = [measure for group in groups for measure in (group.dataset, group.baseline, group.other)]
    parts: list[list[dict[str, Array]]] = [[] for _ in measures]
    for weights in _weights(images, draws, seed):
        for part, measure in zip(parts, measures, strict=True):
            part.append({} if measure is None else measure(weights))
        advance(len(weights))
    values = [{name: np.concatenate([p[name] for p in part]) for name in part[0]} for part in parts]
    return {group.name: _figures(*values[3 * k : 3 * k + 3]) for k, group in enumerate(groups)}


def _weights(images: int, draws: int, seed: int) -> Iterator[Array]:
    """Yield blocks of (D, N) weights: all ones first, then each draw's counts."""
    yield np.ones((1, images))
    generator, most = np.random.default_rng(seed), max(_BLOCK // images, 1)
    for start in range(0, draws, most):
        size = min(most, draws - start)
        picks = generator.integers(0, images, (size, images)) + images * np.arange(size)[:, None]
        yield np.bincount(picks.ravel(), minlength=size * images).reshape(size, images).astype(np.float64)


def _figures(dataset: dict[str, Array], baseline: dict[str, Array], other: dict[str, Array]) -> dict[str, Figure]:
    """Return the figures of a group from each measure's values: the figure itself, then those of the draws."""
    out = {}
    for name, values in dataset.items():
        beside = [side.get(name) for side in (baseline, other)]
        pairs = [(None, None) if v is None else (estimate(v), estimate(values - v)) for v in beside]
        out[name] = Figure(estimate(values), *pairs[0], *pairs[1])
    return out


def estimate(values: Array) -> Estimate:
    """Return a figure with its interval.

    Args:
        values: (1 + D,): the figure itself, then those of D draws. Draws in which it is undefined (NaN) are ignored.
    """
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist() if drawn.size else (np.nan, np.nan)
    return Estimate(float(values[0]), low, high)
