"""Names of regions: the best classes of each, from the labeler's probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranking", "best_classes", "drop_duplicates", "rank", "trust_original"]

Ranking = list[tuple[int, float]]  # (class, score), best first


def best_classes(probabilities: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the best classes of each row of (n, K), with equal scores in class order: (n, count)."""
    count = min(count, probabilities.shape[1])
    places = np.sort(np.argpartition(-probabilities, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(probabilities, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def rank(
    probabilities: NDArray[np.float32],
    best: NDArray[np.int64],
    count: int,
    confusable: NDArray[np.bool_] | None = None,
) -> Ranking:
    """Return the best classes, without scores of 0 (underflow).

    Args:
        probabilities: (K,).
        best: The candidates, best first.
        count: Number of classes to return.
        confusable: (K, K), whether two classes are confusable. Each class absorbs the scores of the worse classes that
            are confusable with it, which are then not named themselves. None: no class absorbs another.
    """
    if confusable is None:
        return [(int(index), float(probabilities[index])) for index in best[:count] if probabilities[index] > 0]
    free = np.ones(len(probabilities), np.bool_)
    out: Ranking = []
    for index in best:
        if len(out) == count or probabilities[index] <= 0:
            break
        if free[index]:
            group = confusable[index] & free
            out.append((int(index), min(1.0, float(probabilities[group].sum()))))
            free &= ~confusable[index]
    return sorted(out, key=lambda item: (-item[1], item[0]))


def trust_original(
    probabilities: NDArray[np.float32], original: int, odds: float, present: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the regions' probabilities, given that somebody chose the image's original label: (R, K).

    The original label's odds in a region rise by its prior odds; the other classes share the rest as before. No class is
    more likely in a region than in the image.

    Args:
        probabilities: (R, K), the labeler's.
        original: The original class.
        odds: Prior odds that an original label is right.
        present: (K,), the probability that each class is in the image.
    """
    own = probabilities[:, original].astype(np.float64)
    raised = odds * own / (odds * own + 1 - own)
    out = probabilities * ((1 - raised) / np.maximum(1 - own, 1e-9))[:, None]
    out[:, original] = raised
    return np.minimum(out, present).astype(np.float32)


def drop_duplicates(
    overlaps: NDArray[np.float64], order: list[int], names: list[int] | None, merge_iou: float
) -> list[int]:
    """Return which regions to publish: of duplicates, the first one in `order`.

    Args:
        overlaps: (R, R), the IoU of each two masks.
        order: Positions of the regions to choose from, best first.
        names: The regions' best classes: only regions of one class are duplicates. None: their classes do not matter.
        merge_iou: Regions with at least this IoU are duplicates.
    """
    kept: list[int] = []
    for k in order:
        if all(overlaps[k, j] < merge_iou or (names is not None and names[k] != names[j]) for j in kept):
            kept.append(k)
    return sorted(kept)
