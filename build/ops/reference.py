"""MaskCut in its plainest form: one image at a time, dense, exact, float64. Tests compare `build.ops.maskcut` with it.

Wang et al., "Cut and Learn for Unsupervised Object Detection and Instance Segmentation" (CutLER), arXiv 2301.11320,
section 3.2, on Shi & Malik's normalised cuts and TokenCut's affinity. Written from the paper; `build.ops.maskcut` lists
where both deviate from it.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import ndimage

from build.ops.maskcut import AT_MEAN
from build.ops.ncut import EPSILON, NO_CUT, TIE
from build.ops.rounds import NEARLY

__all__ = ["affinity", "component_of", "foreground", "iou", "maskcut", "second_eigenvector"]


def affinity(features: NDArray[np.floating], painted: NDArray[np.bool_], tau: float) -> NDArray[np.float64]:
    """Return the binarised affinity W of patches.

    Args:
        features: (N, C), one row per patch.
        painted: (N,) bool, patches taken by earlier rounds; they are similar to no patch, not even themselves.
        tau: Similarity threshold (cosine) for connecting two patches.

    Returns:
        (N, N) float64, symmetric: 1 where the cosine similarity is >= tau, else EPSILON.
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, 1e-12)
    joined = (unit @ unit.T >= tau) & ~painted[:, None] & ~painted[None]
    return np.where(joined, 1.0, EPSILON)


def second_eigenvector(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the eigenvector of the second smallest eigenvalue of (D - W) x = lambda D x, (N,), and 1 - lambda.

    Its sign is arbitrary. In a tie, it is the vector closest to the direction of `build.ops.ncut.tie_breaker`.
    """
    degrees = weights.sum(axis=1)
    n = len(weights)
    values, vectors = _eigenvectors(weights, degrees, min(2, n - 1))
    if len(values) == 1 or values[1] >= values[0] + TIE:
        return np.asarray(vectors[:, 0]), 1 - float(values[0])
    values, vectors = _eigenvectors(weights, degrees, min(9, n - 1))
    tied = vectors[:, values < values[0] + TIE]
    direction = (np.arange(1, n + 1) * 0.6180339887498949) % 1.0 - 0.5
    vector = tied @ (tied.T @ (np.sqrt(degrees) * direction))
    return np.asarray(vector / np.sqrt(vector @ (degrees * vector))), 1 - float(values[0])


def _eigenvectors(
    weights: NDArray[np.float64], degrees: NDArray[np.float64], last: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues and eigenvectors 1 to `last`, counting from 0."""
    matrix = np.diag(degrees)
    try:
        values, vectors = scipy.linalg.eigh(matrix - weights, matrix, subset_by_index=[1, last])
    except scipy.linalg.LinAlgError:  # LAPACK's solver for a few of them fails for some graphs with many ties
        values, vectors = scipy.linalg.eigh(matrix - weights, matrix, driver="gv")
        values, vectors = values[1 : last + 1], vectors[:, 1 : last + 1]
    return values, vectors


def foreground(vector: NDArray[np.float64], alive: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Cut at the mean and choose the foreground side, by the rules of `build.ops.maskcut.foreground`.

    Args:
        vector: (h, w), the eigenvector on the patch grid.
        alive: (h, w) bool, patches not taken by earlier rounds.

    Returns:
        The foreground as (h, w) bool, and the (row, column) of its most extreme patch, the object's seed.
    """
    margin = AT_MEAN * np.abs(vector).max()
    offset = vector - vector.mean()
    if offset[_first_largest(np.abs(vector), alive)] < 0:
        vector, offset = -vector, -offset
    side = (offset > margin) & alive
    if side[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= 3:
        vector, offset = -vector, -offset
        side = (offset > margin) & alive
    return side, _first_largest(vector, side)


def _first_largest(values: NDArray[np.float64], allowed: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first allowed position, in reading order, with nearly the largest value; (0, 0) if none is allowed."""
    if not allowed.any():
        return 0, 0
    largest = values[allowed].max()
    row, column = np.argwhere(allowed & (values >= largest - NEARLY * abs(largest)))[0]
    return int(row), int(column)


def component_of(side: NDArray[np.bool_], seed: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the 4-connected component of a side that contains the seed: (h, w) bool; empty for a seed outside it."""
    labels, _ = ndimage.label(side)
    here = labels[seed]
    return np.asarray(labels == here) if here else np.zeros_like(side)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return intersection over union of two masks; 0 if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def maskcut(
    features: NDArray[np.floating], *, tau: float, num_regions: int, min_area: float, max_iou: float
) -> list[NDArray[np.bool_]]:
    """Return up to `num_regions` object masks.

    Args:
        features: (C, h, w), one vector per patch.
        tau: See `affinity`.
        num_regions: Rounds N; each paints out the patches of its mask.
        min_area: Drop masks that cover at most this share of the grid.
        max_iou: Drop masks whose IoU with an earlier one exceeds this.

    Returns:
        Masks as (h, w) bool, in the order found. Dropped masks are painted out as well, so that no later round finds
        them again.
    """
    channels, height, width = features.shape
    rows = features.reshape(channels, height * width).T.astype(np.float64)
    painted = np.zeros((height, width), np.bool_)
    raw: list[NDArray[np.bool_]] = []
    for _ in range(num_regions):
        vector, value = second_eigenvector(affinity(rows, painted.ravel(), tau))
        if value < NO_CUT:
            break
        mask = component_of(*foreground(vector.reshape(height, width), ~painted))
        painted |= mask
        if mask.mean() > min_area and all(iou(mask, earlier) <= max_iou for earlier in raw):
            raw.append(mask)
    return [np.asarray(ndimage.binary_fill_holes(mask)) for mask in raw]
