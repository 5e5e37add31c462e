"""Consistency with the network's predictions in earlier epochs, for whole images or per cell.

Verelst et al., "Spatial Consistency Loss for Training Multi-Label Classifiers from Single-Label Annotations", arXiv
2203.06127: in addition to a classification loss on the single label, each class's scores stay close to their running
average over the epochs. In the spatial form, a crop's class maps stay close to the part of the image's running-average
heatmaps that the crop shows, and update that part. A crop without the labelled object thus learns its actual content.
Consistency of whole images is the same on a grid of 1 x 1 cells, with edges (0, 0, 1, 1) for every crop.

Our choices: maps are resampled between crop and image exactly by area; only the classes with the highest heatmaps are
remembered, so that ImageNet fits (`mlimagenet_data.losses.heatmaps`); cells and classes never seen do not contribute to
the loss; the distance is the squared difference of probabilities; the default momentum.
"""

from __future__ import annotations

import torch

from mlimagenet_data.losses.reduction import as_float, mean_of, one_hot
from mlimagenet_data.views.grids import from_crop, to_crop

__all__ = ["spatial_consistency", "update_memory"]


def spatial_consistency(
    maps: torch.Tensor, classes: torch.Tensor, heatmaps: torch.Tensor, edges: torch.Tensor
) -> torch.Tensor:
    """Return the mean squared difference between class maps and remembered heatmaps, over the remembered cells.

    Args:
        maps: (B, K, g, f) probabilities over the crops.
        classes: (B, S) int64, the remembered classes of each image; -1 for none.
        heatmaps: (B, S, h, w) running averages of probabilities over the images; NaN for cells never seen.
        edges: (B, 4) the crops' edges; see `mlimagenet_data.views.grids.edges_of`.

    Raises:
        ValueError: If the shapes are inconsistent.
    """
    _check(maps, classes, heatmaps)
    maps = as_float(maps)
    expected, share = to_crop(heatmaps.to(maps).detach(), edges, (maps.shape[2], maps.shape[3]))
    found = maps.gather(1, _at(classes.clamp(min=0), maps))
    return mean_of((found - expected).square(), share * (classes >= 0)[:, :, None, None])


@torch.no_grad()
def update_memory(
    maps: torch.Tensor,
    labels: torch.Tensor,
    classes: torch.Tensor,
    heatmaps: torch.Tensor,
    edges: torch.Tensor,
    *,
    momentum: float = 0.8,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the memory updated with these crops: running averages H <- H + (1 - momentum) share (maps - H).

    `share` is the share of an image cell that the crop shows. A cell seen for the first time takes the crop's value. Of
    the classes remembered so far and the crop's S highest ones, the S with the highest peak in their heatmap stay. The
    label always ranks first.

    Args:
        maps: (B, K, g, f) probabilities over the crops.
        labels: (B,) int64 original classes, always remembered; -1 for none.
        classes: (B, S) int64, the classes remembered so far; -1 for none.
        heatmaps: (B, S, h, w).
        edges: (B, 4).
        momentum: Weight of the old value, in [0, 1).

    Returns:
        Classes (B, S) and heatmaps (B, S, h, w), best first.

    Raises:
        ValueError: If the shapes are inconsistent, or `momentum` is out of range.
    """
    _check(maps, classes, heatmaps)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    maps, slots, size = as_float(maps), classes.shape[1], (heatmaps.shape[2], heatmaps.shape[3])
    peaks = maps.amax(dim=(2, 3))
    peaks = peaks + 2 * one_hot(peaks, labels)[0]  # the label first
    found = peaks.topk(min(slots, maps.shape[1]), dim=1).indices
    known = (found[:, :, None] == classes[:, None, :]).any(dim=2)
    candidates = torch.cat([classes, torch.where(known, -1, found)], dim=1)
    old = torch.cat([heatmaps.to(maps), heatmaps.new_full((*found.shape, *size), torch.nan).to(maps)], dim=1)
    seen, share = from_crop(maps.gather(1, _at(candidates.clamp(min=0), maps)), edges, size)
    new = torch.where(old.isnan(), torch.where(share > 0, seen, torch.nan), old + (1 - momentum) * share * (seen - old))
    new = torch.where((candidates >= 0)[:, :, None, None], new, torch.nan)
    rank = new.nan_to_num(-1.0).amax(dim=(2, 3)) + 2.0 * (candidates == labels[:, None])
    best = torch.where(candidates >= 0, rank, -2.0).topk(slots, dim=1).indices
    return candidates.gather(1, best), new.gather(1, _at(best, new))


def _at(index: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Expand (B, S) indices to the shape that `gather` needs to select maps."""
    return index[:, :, None, None].expand(-1, -1, maps.shape[2], maps.shape[3])


def _check(maps: torch.Tensor, classes: torch.Tensor, heatmaps: torch.Tensor) -> None:
    if maps.ndim != 4 or heatmaps.ndim != 4 or classes.shape != heatmaps.shape[:2] or len(classes) != len(maps):
        raise ValueError(
            f"maps must be (B, K, g, f), classes (B, S), heatmaps (B, S, h, w), got {tuple(maps.shape)}, "
            f"{tuple(classes.shape)}, {tuple(heatmaps.shape)}"
        )
