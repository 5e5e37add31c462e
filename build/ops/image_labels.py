"""An image's labels: from its regions, or, beside an original label, from what a classifier sees in the whole image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from build.config.options import BuildConfig
from build.labeler.originals import OriginalTrust
from build.ops.naming import Ranking

__all__ = ["collect", "label_beside_original", "rival_of"]

_OPINION = 0.25  # weight of other networks' opinion on an image without an original label


def rival_of(whole: dict[int, float], original: int) -> tuple[float, float]:
    """Return the probabilities of the original class and of the best other class."""
    return whole.get(original, 0.0), max((p for index, p in whole.items() if index != original), default=0.0)


def label_beside_original(
    whole: dict[int, float], original: int, trust: OriginalTrust, config: BuildConfig
) -> tuple[Ranking, bool]:
    """Choose the labels of an image with an original label from what a classifier sees in the whole image.

    Regions do not add labels here: the largest of many regions' scores is far too sure, and most photographs that were
    collected for one class show only that class. Regions still say where a label's object is.

    Args:
        whole: The classifier's probabilities of its best classes, and of the original one.
        original: The original class.
        trust: How far original labels are trusted.
        config: Provides `added_threshold` and `unconfirmed`.

    Returns:
        The labels, best first, with their scores, and whether the original label was found: whether it is more likely
        right than not.
    """
    labels = {index: p for index, p in whole.items() if p >= config.added_threshold and p > 0 and index != original}
    own = trust.score(*rival_of(whole, original))
    found = own >= 0.5
    if found or config.unconfirmed == "keep":
        labels[original] = own
    return sorted(labels.items(), key=lambda item: (-item[1], item[0])), found


def collect(regions: list[Ranking], whole: Ranking, opinion: NDArray[np.floating] | None, threshold: float) -> Ranking:
    """Collect the labels of an image without an original label: each class's best score over regions and whole image.

    Args:
        regions: The regions' best classes.
        whole: The whole image's best classes.
        opinion: (K,), the probability of each class by other networks; None without any. A score is its weighted mean
            with the best one.
        threshold: Least score of a label.
    """
    best: dict[int, float] = {}
    for ranking in [*regions, whole]:
        for index, score in ranking:
            best[index] = max(best.get(index, 0.0), score)
    if opinion is not None:
        best = {index: (1 - _OPINION) * score + _OPINION * float(opinion[index]) for index, score in best.items()}
    labels = [(index, score) for index, score in best.items() if score >= threshold]
    return sorted(labels, key=lambda item: (-item[1], item[0]))
