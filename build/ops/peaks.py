"""Regions from a dense label map: locations where a class stands out, grown into masks along the patches' similarities.

MaskCut finds the few objects per image that differ from their surroundings. A classifier applied at each location sees
more and smaller objects, but not their extent. Here each class that stands out in the label map gets a region. The map
of its probability is spread by a few steps of a random walk between similar patches (as Ahn & Kwak, "Learning
Pixel-level Semantic Affinity", CVPR 2018, spread class activation maps), cut at a share of its range, and reduced to the
component of the maximum. The original class, which is known to be there, also gets regions from its logits: they are
high all over an object, and its probability only where no other class competes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from build.ops.components import component_at, fill_holes
from build.ops.pooling import pool, region_weights

__all__ = ["Peaks", "evidence", "find_elsewhere", "find_peaks", "grow", "grow_object"]

WINDOWS = (0.25, 0.38)  # sizes of the windows over which logits are averaged, as shares of the map's side
_STEPS = 2  # steps of the random walk
_POWER = 2  # exponent of the cosine similarity in its weights
_CONTEXT = 0.5  # weight of the classifier's features beside the patches in that similarity
_LEVEL = 0.45  # a peak's threshold, as a share of the spread map's range
LEVELS = (0.4, 0.1, 0.55, 0.7)  # those of the object, of the object and what it merges with, and of its parts
_SMALLEST = 1e-12


class Peaks(NamedTuple):
    """The classes that stand out in B images, at most S per image, best first.

    Attributes:
        classes: (B, S) int64.
        scores: (B, S) float32, the class's largest probability in a smaller window; the geometric mean over label maps.
        kept: (B, S) bool; false where the score is too low.
        maps: For each label map (B, S, h, w) float32, the class's probability in the smaller window around each
            location.
        windows: For each label map (B, S, h, w) float32, the mean of the windows with the largest probability.
    """

    classes: Tensor
    scores: Tensor
    kept: Tensor
    maps: tuple[Tensor, ...]
    windows: tuple[Tensor, ...]


def evidence(label_maps: Sequence[Tensor], temperature: float) -> list[Tensor]:
    """Return each map's class probabilities in the smaller window around each location: (B, K, h, w)."""
    out = []
    for logits in label_maps:
        high, wide = _window(logits, WINDOWS[0])
        around = F.avg_pool2d(logits, (high, wide), 1, padding=(high // 2, wide // 2), count_include_pad=False)
        out.append((around / temperature).softmax(dim=1))
    return out


def find_elsewhere(seen: Sequence[Tensor], masks: Tensor, classes: Tensor, least: float) -> Tensor:
    """Find the classes whose evidence is elsewhere in the image rather than in a region.

    A region beside an object often gets the object's class, because a network's receptive field extends far around a
    location. Such a class peaks outside the region, and its mean evidence in the region is far below the peak.

    Args:
        seen: Each map's `evidence`, (B, K, h', w').
        masks: (B, R, h, w) bool.
        classes: (B, R, C) int64.
        least: Share of the peak's evidence that the region's mean must reach.

    Returns:
        (B, R, C) bool; all false for maps of NaN.
    """
    inside = torch.zeros(classes.shape, device=classes.device)
    largest, holds = torch.zeros_like(inside), torch.zeros_like(inside)
    for around in seen:
        weights = region_weights(masks, (around.shape[2], around.shape[3]))[:, :-1]
        inside += pool(around, weights).gather(2, classes)
        peak, place = (
            x[:, None].expand(-1, classes.shape[1], -1).gather(2, classes) for x in around.flatten(2).max(dim=2)
        )
        largest += peak
        holds += (weights > 0.5 * weights.amax(dim=2, keepdim=True)).float().gather(2, place)
    return (inside < least * largest) & (holds < 0.5 * len(seen))


def find_peaks(
    label_maps: Sequence[Tensor], seen: Sequence[Tensor], count: int, least: float, temperature: float
) -> Peaks:
    """Return the classes with the highest scores.

    Args:
        label_maps: V maps (B, K, h, w) of logits, of the same images at different input sizes.
        seen: Their `evidence`.
        count: S, the number of classes per image.
        least: Keep classes scoring at least this.
        temperature: Divisor of the logits.
    """
    best, places = [], []
    for logits in label_maps:
        for share in WINDOWS:
            pooled = F.avg_pool2d(logits, _window(logits, share), 1)
            probability, place = (pooled / temperature).softmax(dim=1).flatten(2).max(dim=2)
            best.append(probability.clamp_min(_SMALLEST).log())
            places.append(place)
    small = torch.stack(best[:: len(WINDOWS)])  # larger windows would hide small objects
    scores, classes = small.mean(dim=0).exp().sort(dim=1, descending=True, stable=True)
    scores, classes = scores[:, :count], classes[:, :count]
    chosen = [place.gather(1, classes) for place in places]
    maps, windows = [], []
    for k, (logits, around) in enumerate(zip(label_maps, seen, strict=True)):
        index = classes[:, :, None, None].expand(-1, -1, *logits.shape[2:])
        maps.append(around.gather(1, index))
        own = chosen[k * len(WINDOWS) : (k + 1) * len(WINDOWS)]
        boxes = [_boxes(place, _window(logits, share), logits) for place, share in zip(own, WINDOWS, strict=True)]
        windows.append(torch.stack(boxes).mean(dim=0))
    return Peaks(classes, scores, scores >= least, tuple(maps), tuple(windows))


def _window(logits: Tensor, share: float) -> tuple[int, int]:
    """Return the odd numbers of cells nearest to a share of the map's height and width."""
    high, wide = (2 * round((share * side - 1) / 2) + 1 for side in logits.shape[2:])
    return max(1, high), max(1, wide)


def _boxes(places: Tensor, window: tuple[int, int], logits: Tensor) -> Tensor:
    """Return each window as a map: (B, S, h, w), 1 / cells inside and 0 outside."""
    height, width = logits.shape[2:]
    across = width - window[1] + 1
    inside = []
    for start, length, side in ((places // across, window[0], height), (places % across, window[1], width)):
        cells = torch.arange(side, device=places.device)
        inside.append(((cells >= start[..., None]) & (cells < start[..., None] + length)).float())
    return inside[0][..., :, None] * inside[1][..., None, :] / (window[0] * window[1])


def grow(patches: Tensor, peaks: Peaks) -> Tensor:
    """Grow each peak into a mask: (B, S, h, w) bool, empty for peaks that are not kept.

    Args:
        patches: (B, C, h, w) features.
        peaks: The peaks of the same images.
    """
    size, count = (patches.shape[2], patches.shape[3]), peaks.classes.shape[1]
    if not count:
        return torch.zeros((len(patches), 0, *size), dtype=torch.bool, device=patches.device)
    maps = torch.stack([_stretch(m, size) for m in peaks.maps]).mean(dim=0)
    unit = F.normalize(patches.flatten(2).mT, dim=-1)
    return _cut(_spread(unit, maps), _LEVEL, size) & peaks.kept[..., None, None]


def grow_object(patches: Tensor, context: Tensor, label_maps: Sequence[Tensor], originals: Tensor) -> Tensor:
    """Return the masks of the original class's object at each of LEVELS: (B, L, h, w) bool, empty without an original.

    The object's extent is uncertain; on ImageNet's photographs, the first level is right most often.

    Args:
        patches: (B, C, h, w) features.
        context: (B, D, h', w'), the classifier's features. They tell kinds of things apart that patches confuse.
        label_maps: Maps (B, K, h'', w'') of logits.
        originals: (B,) int64, the original classes; -1 without one.
    """
    size = (patches.shape[2], patches.shape[3])
    index = originals.clamp_min(0)[:, None, None, None]
    own = [m.gather(1, index.expand(-1, 1, *m.shape[2:])) for m in label_maps]
    maps = torch.stack([_range(_stretch(m, size)) for m in own]).mean(dim=0)
    wide = F.interpolate(context, size=size, mode="bilinear", align_corners=False)
    both = torch.cat((F.normalize(patches, dim=1), _CONTEXT * F.normalize(wide, dim=1)), dim=1)
    spread = _spread(F.normalize(both.flatten(2).mT, dim=-1), maps)
    masks = torch.cat([_cut(spread, level, size) for level in LEVELS], dim=1)
    return masks & (originals >= 0)[:, None, None, None]


def _stretch(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False).flatten(2)


def _range(maps: Tensor) -> Tensor:
    """Scale each map of (B, S, N) to [0, 1]."""
    low, high = maps.amin(dim=2, keepdim=True), maps.amax(dim=2, keepdim=True)
    return (maps - low) / (high - low).clamp_min(_SMALLEST)


def _spread(unit: Tensor, maps: Tensor) -> Tensor:
    """Spread (B, S, N) maps over patches with unit features (B, N, C): (B, S, N)."""
    return torch.stack([_walk(rows, values) for rows, values in zip(unit, maps.mT, strict=True)]).mT


def _cut(spread: Tensor, level: float, size: tuple[int, int]) -> Tensor:
    """Return the part of each (B, S, N) map above a share of its range, around its maximum: (B, S, h, w) bool."""
    low, high = spread.amin(dim=2, keepdim=True), spread.amax(dim=2, keepdim=True)
    masks = (spread >= low + level * (high - low)) & (high > low)
    whole = fill_holes(component_at(masks.reshape(-1, *size), spread.argmax(dim=2).flatten()))
    return whole.reshape(*spread.shape[:2], *size)


def _walk(unit: Tensor, start: Tensor) -> Tensor:
    """Spread (N, S) values by the random walk's steps on N patches with unit features (N, C)."""
    weights = (unit @ unit.T).clamp_min(0) ** _POWER
    total = weights.sum(dim=1, keepdim=True).clamp_min(_SMALLEST)
    for _ in range(_STEPS):
        start = weights @ start / total
    return start
