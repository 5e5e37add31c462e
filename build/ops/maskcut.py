"""MaskCut: object masks from patch features, by repeated normalised cuts. The plain form, one image at a time, dense and exact.

Wang et al., "Cut and Learn for Unsupervised Object Detection and Instance Segmentation" (CutLER), arXiv 2301.11320, section 3.2,
on Shi & Malik's normalised cuts and TokenCut's affinity. Written from the paper. Where we deviate: of two sides, the paper's
wording lets the outcome depend on the eigenvector's arbitrary sign; see `foreground`. No CRF follows, so a mask keeps to the
patch grid.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["EPSILON", "affinity", "component_of", "foreground", "iou", "maskcut", "second_eigenvector"]

EPSILON = 1e-5  # affinity of patches that are not alike; keeps the graph connected


def affinity(features: NDArray[np.floating], painted: NDArray[np.bool_], tau: float) -> NDArray[np.float64]:
    """Return the binarised affinity W of patches.

    Args:
        features: (N, C), one row a patch.
        painted: (N,) bool; patches that earlier rounds took. They are like no patch, not even themselves.
        tau: Cosine similarity from which on two patches are joined.

    Returns:
        (N, N) float64, symmetric: 1 where the cosine similarity is >= tau, else EPSILON.
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, 1e-12)
    joined = (unit @ unit.T >= tau) & ~painted[:, None] & ~painted[None]
    return np.where(joined, 1.0, EPSILON)


def second_eigenvector(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the eigenvector of the second smallest eigenvalue of (D - W) x = lambda D x: (N,), its sign arbitrary."""
    degrees = np.diag(weights.sum(axis=1))
    _, vectors = scipy.linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 1])
    vector: NDArray[np.float64] = vectors[:, 0]
    return vector


def foreground(vector: NDArray[np.float64]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Cut at the mean and choose the foreground side.

    The foreground is the side of the patch with the largest absolute value (seed rule), unless that side holds three or four
    of the image's corners: then it is the other one (corner rule). Unlike the paper's wording, this does not depend on the
    vector's sign.

    Args:
        vector: (h, w), the eigenvector on the patch grid.

    Returns:
        The side as (h, w) bool, and the (row, column) of its most extreme patch, the seed of the object.
    """
    side = vector > vector.mean()
    extreme = np.unravel_index(np.argmax(np.abs(vector)), vector.shape)
    if not side[extreme]:
        side, vector = ~side, -vector
    if side[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= 3:
        side, vector = ~side, -vector
    seed = np.unravel_index(np.argmax(np.where(side, vector, -np.inf)), vector.shape)
    return side, (int(seed[0]), int(seed[1]))


def component_of(side: NDArray[np.bool_], seed: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the 4-connected component of a side that holds the seed: (h, w) bool; empty if the seed is not on the side."""
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
        features: (C, h, w), one vector a patch.
        tau: See `affinity`.
        num_regions: Rounds N; after each, the patches of its mask are painted out.
        min_area: A mask that covers no more than this share of the grid is dropped.
        max_iou: A mask whose IoU with an earlier one is higher is dropped.

    Returns:
        Masks as (h, w) bool, in the order found. Dropped masks are painted out all the same, so that a round does not find
        them again.
    """
    channels, height, width = features.shape
    rows = features.reshape(channels, height * width).T.astype(np.float64)
    painted = np.zeros(height * width, np.bool_)
    masks: list[NDArray[np.bool_]] = []
    for _ in range(num_regions):
        if painted.all():
            break
        vector = second_eigenvector(affinity(rows, painted, tau)).reshape(height, width)
        mask = component_of(*foreground(vector))
        painted |= mask.ravel()
        if mask.mean() > min_area and all(iou(mask, earlier) <= max_iou for earlier in masks):
            masks.append(mask)
    return masks
