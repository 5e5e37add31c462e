"""How well the score of an original label fits what people say: the build's score, and a fit to people's own verdicts.

The build fits two numbers without anybody's judgement (`build.labeler.originals`). Here, they are also fitted to the
verdicts of people, by logistic regression in five folds over images, so that each image is scored by a fit to others.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from benchmarks.variants import REGIONS
from build.labeler.head import Labeler
from build.labeler.originals import PRIOR, OriginalTrust
from build.ops.image_labels import rival_of
from build.records import RegionsRow, read_rows
from mlimagenet_data.evaluate.compare.bootstrap import Array, Figure, Group, Measure, figures_of, share
from mlimagenet_data.evaluate.compare.label_sets import Reading, read_labels
from mlimagenet_data.evaluate.compare.scores import score_measure
from mlimagenet_data.evaluate.sets.truth import Truth
from mlimagenet_data.names import join_key

__all__ = ["FITTED", "WAYS", "Scored", "fit_to_people", "measure_trust"]

FITTED = "the build's fit"
WAYS = ("no trust: the classifier's probability", "the prior, not fitted", FITTED, "a fit to people's verdicts")
_LABELER = Path(".build", "train", "labeler", "labeler.safetensors")
_FOLDS = 5
_LEAST = 1e-6  # scores are at least so far from 0 and 1


class Scored(NamedTuple):
    """Scores of N original labels, with the two numbers behind them, None where there are none."""

    scores: Array
    error: float | None = None
    weight: float | None = None


def measure_trust(dataset: Path, truth: Truth, draws: int) -> dict[str, tuple[Scored, dict[str, Figure]]]:
    """Return the scores and their figures for each of `WAYS`: `ece`, `log_loss` and `auroc`; `other` is the build's fit.

    Covers the images whose original class people judged.

    Args:
        dataset: A build, with its intermediate results.
        truth: What people say, with label sets.
        draws: Number of bootstrap draws.
    """
    originals = [example.original for example in truth.examples]
    evidence = _evidence(dataset, truth)
    pairs = zip(read_labels(truth, [()] * len(truth), originals), evidence, strict=True)
    judged = [(reading, *found) for reading, found in pairs if reading.original is not None and found is not None]
    readings, own, rival = zip(*judged, strict=True)
    right = np.array([reading.original in reading.valid for reading in readings], np.bool_)
    ratios = np.log(np.maximum(own, 1e-9) / np.maximum(rival, 1e-9))
    ways = dict(zip(WAYS, (
        Scored(np.array(own)), _by(PRIOR, own, rival), _by(Labeler.load(dataset / _LABELER).trust, own, rival),
        fit_to_people(ratios, right),
    ), strict=True))  # fmt: skip
    measures = {name: _measure(readings, right, way.scores) for name, way in ways.items()}
    groups = [Group(name, measure, None, measures[FITTED]) for name, measure in measures.items()]
    figures = figures_of(groups, len(readings), draws, 0)
    return {name: (way, figures[name]) for name, way in ways.items()}


def _evidence(dataset: Path, truth: Truth) -> list[tuple[float, float] | None]:
    """Return the ensemble's probability of each image's original class and of the best other class."""
    found = {}
    for file in sorted((dataset / REGIONS).glob("*.parquet")):
        for row in read_rows(file, RegionsRow, "image_id", "label", "whole_classes", "whole_scores"):
            if row.label is not None and row.whole_classes is not None:
                whole = dict(zip(row.whole_classes, row.whole_scores or [], strict=True))
                found[join_key(row.image_id)] = rival_of(whole, row.label)
    return [found.get(join_key(image_id)) for image_id in truth.ids]


def _by(trust: OriginalTrust, own: tuple[float, ...], rival: tuple[float, ...]) -> Scored:
    return Scored(np.array([trust.score(*pair) for pair in zip(own, rival, strict=True)]), trust.error, trust.weight)


def fit_to_people(ratios: NDArray[np.float64], right: NDArray[np.bool_], seed: int = 0) -> Scored:
    """Fit the probability that a label is right to people's verdicts.

    Args:
        ratios: (N,), log(own / rival).
        right: (N,), the verdicts.
        seed: Seed of the folds.

    Returns:
        Scores, each by a fit to the other folds; the two numbers are those of the fit to all images.
    """
    x, scores = ratios[:, None], np.zeros(len(ratios))

    def fit(rows: NDArray[np.int64]) -> LogisticRegression:
        return LogisticRegression(C=1e9).fit(x[rows], right[rows])

    for others, fold in KFold(_FOLDS, shuffle=True, random_state=seed).split(x):
        scores[fold] = fit(others).predict_proba(x[fold])[:, 1]
    model = fit(np.arange(len(x)))
    return Scored(scores, float(1 / (1 + np.exp(model.intercept_[0]))), float(model.coef_[0, 0]))


def _measure(readings: tuple[Reading, ...], right: NDArray[np.bool_], scores: Array) -> Measure:
    """Return the measure of scores of the original labels."""
    calibration = score_measure([
        reading._replace(labels=((reading.original, float(score)),))
        for reading, score in zip(readings, scores, strict=True) if reading.original is not None
    ])  # fmt: skip
    p = np.clip(scores, _LEAST, 1 - _LEAST)
    losses = -np.log(np.where(right, p, 1 - p))

    def figures(weights: Array) -> dict[str, Array]:
        found = calibration(weights)
        loss = share(weights @ losses, weights.sum(axis=1))
        return {"ece": found["ece_original"], "log_loss": loss, "auroc": found["wrong_auroc"]}

    return figures
