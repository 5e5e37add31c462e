"""The methods of the comparison: source of labels, target, and loss from `mlimagenet_data.losses`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.networks import TrialOutput
from experiments.scenes import MEAN_OBJECTS
from mlimagenet_data.losses.binary import asymmetric, binary_cross_entropy
from mlimagenet_data.losses.clicks import point_regression, points_in_crop
from mlimagenet_data.losses.consistency import spatial_consistency, update_memory
from mlimagenet_data.losses.heatmaps import Heatmaps
from mlimagenet_data.losses.pooled import soft_cross_entropy
from mlimagenet_data.losses.single_positive import assume_negative, entropy_maximisation, expected_positive

__all__ = ["METHODS", "Method", "TrialBatch"]


class TrialBatch(NamedTuple):
    """The data of one step besides the crops' pixels.

    Attributes:
        target: (B, K) float32, or (B,) int64 for `label`.
        rows: (B,) int64, the scene of each crop.
        edges: (B, 4), the position of each crop; see `mlimagenet_data.views.grids.edges_of`.
        clicks: (B, 2), a point on the scene's largest object, (x, y) as shares of the scene.
        memory: Stored heatmaps of the scenes, for a method with `cells`.
    """

    target: Tensor
    rows: Tensor
    edges: Tensor
    clicks: Tensor
    memory: Heatmaps | None


Loss = Callable[[TrialOutput, TrialBatch], Tensor]


def plain(loss: Callable[..., Tensor], **options: float) -> Loss:
    """Return a loss of logits and targets."""
    return lambda output, batch: loss(output.logits, batch.target, **options)


def consistency(output: TrialOutput, batch: TrialBatch, *, spatial: bool) -> Tensor:
    """Assume other classes absent; make scores (or class maps) agree with earlier crops of the scene (2203.06127)."""
    assert batch.memory is not None
    maps = (output.maps if spatial else output.logits[:, :, None, None]).sigmoid()
    edges = batch.edges if spatial else torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(maps), 4)
    classes, heat = batch.memory.read(batch.rows)
    agreement = classes.shape[1] * spatial_consistency(maps, classes, heat, edges)
    batch.memory.write(batch.rows, *update_memory(maps, batch.target, classes, heat, edges))
    return assume_negative(output.logits, batch.target) + agreement


def byproducts(output: TrialOutput, batch: TrialBatch) -> Tensor:
    """Add regression of the annotator's click to the softmax loss of the single label (2303.17595)."""
    points, weights = points_in_crop(batch.clicks, batch.edges)
    return soft_cross_entropy(output.logits, batch.target) + point_regression(output.points, points, weights)


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Attributes:
        name: Name in the tables.
        source: `known`: the scenes' true objects; `maps`: the embedded network's label maps of the scenes; `built`: the
            build's labels and masks of the scenes.
        target: One of `experiments.crops.TARGETS`.
        loss: The loss to minimise.
        sigmoid: Whether scores are sigmoids; otherwise they are a softmax.
        cells: Size of the stored heatmaps, for a loss with a memory.
    """

    name: str
    source: str
    target: str
    loss: Loss
    sigmoid: bool = True
    cells: tuple[int, int] | None = None

    def scores(self, logits: Tensor) -> Tensor:
        """Return the classes' scores in [0, 1]."""
        return torch.sigmoid(logits) if self.sigmoid else logits.softmax(dim=1)


_softmax, _binary = plain(soft_cross_entropy), plain(binary_cross_entropy)

METHODS = (
    Method("single label, softmax", "known", "single", _softmax, sigmoid=False),
    Method("single label, binary (others assumed absent)", "known", "label", plain(assume_negative)),
    Method("single label, binary, smoothed", "known", "label", plain(assume_negative, smoothing=0.05)),
    Method("single label, expected positives", "known", "label", plain(expected_positive, count=MEAN_OBJECTS)),
    Method("single label, entropy maximised", "known", "label", plain(entropy_maximisation)),
    Method("single label, consistency", "known", "label", partial(consistency, spatial=False), cells=(1, 1)),
    Method("single label, spatial consistency", "known", "label", partial(consistency, spatial=True), cells=(8, 8)),
    Method("single label and click, softmax", "known", "single", byproducts, sigmoid=False),
    Method("single label where it is in view, softmax", "known", "located", _softmax, sigmoid=False),
    Method("label maps pooled over the crop (softmax)", "maps", "pooled", _softmax, sigmoid=False),
    Method("all labels of the image", "known", "image", _binary),
    Method("labels of the crop", "known", "crop", _binary),
    Method("labels of the crop, undecided left out", "known", "ignore", _binary),
    Method("labels of the crop, asymmetric loss", "known", "crop", plain(asymmetric)),
    Method("labels of the crop, pooled (softmax)", "known", "pooled", _softmax, sigmoid=False),
    Method("built: all labels of the image", "built", "image", _binary),
    Method("built: labels of the crop", "built", "crop", _binary),
    Method("built: labels of the crop, undecided left out", "built", "ignore", _binary),
    Method("built: labels of the crop, soft", "built", "soft", _binary),  # known labels are all certain
)
