"""Learning using annotation byproducts: a second head predicts where the annotator clicked.

Han et al., "Neglected Free Lunch - Learning Image Classifiers Using Annotation Byproducts", arXiv 2303.17595: a loss
that regresses the click location is added to the classification loss (LUAB). Its weight is 0 if the click is outside
the crop.
"""

from __future__ import annotations

import torch
from torch.nn.functional import smooth_l1_loss

from mlimagenet_data.losses.reduction import as_float, mean_of

__all__ = ["point_regression", "points_in_crop"]


def points_in_crop(points: torch.Tensor, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Map points in images to coordinates in crops.

    Args:
        points: (B, 2), (x, y) as shares of the image's width and height; NaN for an image without a point.
        edges: (B, 4), (top, left, bottom, right); see `mlimagenet_data.views.grids.edges_of`.

    Returns:
        (B, 2), (x, y) as shares of the crop's width and height, and (B,) weights: 1 if the point is inside the crop,
        else 0. Points outside are (0, 0).

    Raises:
        ValueError: If the shapes are inconsistent.
    """
    if points.shape[1:] != (2,) or edges.shape != (len(points), 4):
        raise ValueError(f"points must be (B, 2) and edges (B, 4), got {tuple(points.shape)} and {tuple(edges.shape)}")
    first, last = edges[:, [1, 0]].to(points), edges[:, [3, 2]].to(points)
    seen = (points - first) / (last - first)
    shown = ((seen >= 0) & (seen <= 1)).all(dim=1)  # False for NaN
    return torch.where(shown[:, None], seen, 0.0), shown.to(points.dtype)


def point_regression(
    predicted: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, *, beta: float = 1.0
) -> torch.Tensor:
    """Return the smooth L1 distance between predicted and true points, summed over x and y, averaged by weight.

    A coordinate's term is d^2 / (2 beta) for a distance d < beta, else d - beta / 2.

    Args:
        predicted: (B, 2), (x, y) as shares of the crop.
        points: (B, 2).
        weights: (B,), at least 0; 0 ignores an image.
        beta: The distance below which the loss is quadratic.

    Raises:
        ValueError: If the shapes are inconsistent.
    """
    if predicted.shape != points.shape or predicted.shape[1:] != (2,) or weights.shape != points.shape[:1]:
        shapes = tuple(predicted.shape), tuple(points.shape), tuple(weights.shape)
        raise ValueError(
            f"predicted and points must be (B, 2), weights (B,), got {shapes[0]}, {shapes[1]}, {shapes[2]}"
        )
    predicted = as_float(predicted)
    each = smooth_l1_loss(predicted, points.to(predicted.dtype), reduction="none", beta=beta).sum(dim=1)
    return mean_of(each, weights)
