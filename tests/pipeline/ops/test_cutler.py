"""CutLER's own rules against a slow procedure that was written from their description: dense, float64, one image."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import ndimage

from build.ops import cutler
from build.ops.maskcut import maskcut
from tests.pipeline.ops.test_maskcut import scenes

OPTIONS = {"tau": 0.3, "num_regions": 4, "min_area": 0.01, "max_iou": 0.5}


def slow_iou(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def slow_cut(features, tau):
    """The second eigenvector of (N, C) rows whose painted-out patches are zero, positive along a fixed direction."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    weights = np.where(unit @ unit.T > tau, 1.0, 1e-5)
    degrees = np.diag(weights.sum(axis=1))
    values, vectors = scipy.linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 2])
    direction = (np.arange(1, len(weights) + 1) * 0.6180339887498949) % 1 - 0.5
    return vectors[:, 0] * (1 if vectors[:, 0] @ direction >= 0 else -1), 1 - values[0]


def slow_mask(vector, shape):
    side = (vector > vector.mean()).reshape(shape)
    corners = sum(int(side[row, column]) for row in (0, -1) for column in (0, -1))
    if corners >= 3 or not side.ravel()[np.abs(vector).argmax()]:
        vector, side = -vector, ~side
    labels, _ = ndimage.label(side)
    return labels == labels.ravel()[vector.argmax()]


def slow_maskcut(features, tau, num_regions, min_area, max_iou, sign=1):
    rows, shape = features.reshape(len(features), -1).T.astype(np.float64), features.shape[1:]
    painted = taken = before = np.zeros(shape, bool)
    found = []
    for number in range(num_regions):
        vector, value = slow_cut(np.where(painted.ravel()[:, None], 0, rows), tau)
        mask = slow_mask(sign * vector, shape) if value >= 1e-3 else np.zeros(shape, bool)
        if number and (slow_iou(mask, before) > max_iou or mask.mean() <= min_area):
            mask = np.zeros(shape, bool)
        before, painted = mask, painted | mask
        part, taken = mask & ~taken, taken | mask
        filled = ndimage.binary_fill_holes(part)
        if part.any() and slow_iou(part, filled) >= 0.5:
            found.append(filled)
    return found


def masks_of(features, **options):
    found = maskcut(torch.from_numpy(np.asarray(features, np.float32)), rules="original", **{**OPTIONS, **options})
    return [[m.numpy() for m, k in zip(*pair, strict=True) if k] for pair in zip(found.masks, found.kept, strict=True)]


@pytest.mark.parametrize("sign", [1, -1])
def test_masks_equal_the_slow_procedures(sign):
    features = scenes(40)
    same = total = 0
    for image, masks in zip(features, masks_of(features, sign=sign), strict=True):
        expected = slow_maskcut(image, **OPTIONS, sign=sign)
        total += max(len(expected), len(masks))
        same += sum(np.array_equal(a, b) for a, b in zip(expected, masks, strict=False))
    assert total > 60
    assert same >= 0.97 * total, (same, total)


def test_the_rules_differ_from_ours():
    features = torch.from_numpy(scenes(40))
    assert not torch.equal(maskcut(features, **OPTIONS).masks, maskcut(features, rules="original", **OPTIONS).masks)


def test_the_foreground_depends_on_the_sign_where_the_background_has_the_largest_value():
    vector = torch.full((1, 5, 5), -0.2)
    vector[0, 0, 2], vector[0, 2, 2:4] = -0.3, 1.0
    vector[0, 4, 2] = -1.5
    (side, _), (turned, _) = cutler._foreground(vector), cutler._foreground(-vector)
    assert torch.equal(side, vector < vector.mean())  # it holds the largest value
    assert torch.equal(turned, vector >= vector.mean())  # the other side contains the corners


@settings(deadline=None, max_examples=40)
@given(st_numpy.arrays(np.float64, (4, 5), elements=st.integers(-1000, 1000), unique=True))
def test_the_foreground_equals_the_slow_procedures(vector):
    vector = vector + 0.25  # no value is the mean
    side, seeds = cutler._foreground(torch.from_numpy(vector)[None])
    labels, _ = ndimage.label(side[0].numpy())
    values = np.sort(np.abs(vector).ravel())
    if values[-1] * (1 - 1e-3) > values[-2]:  # else the first in reading order counts
        np.testing.assert_array_equal(labels == labels.ravel()[int(seeds)], slow_mask(vector.ravel(), (4, 5)))


def rows_mask(*rows):
    return torch.from_numpy(np.isin(np.arange(10), rows)[:, None] & np.ones((1, 10, 10), bool))


def cut_as_told(monkeypatch, *masks):
    """Let the rounds find `masks`, and return a list that is filled with the patches left to each round."""
    alive, found = [], iter(masks)
    original = cutler.second_vectors

    def note(graph, start, passes):
        alive.append(graph.alive[0].view(10, 10)[:, 0].nonzero()[:, 0].tolist())
        return original(graph, start, passes)._replace(converged=torch.ones(1, dtype=torch.bool), values=torch.ones(1))

    monkeypatch.setattr(cutler, "second_vectors", note)
    monkeypatch.setattr(cutler, "component_at", lambda side, seeds: next(found))
    return alive


def test_a_duplicate_is_dropped_once_and_kept_when_found_again(monkeypatch):
    first, again = rows_mask(0, 1, 2), rows_mask(0, 1)
    alive = cut_as_told(monkeypatch, first, again, again, rows_mask(9))
    masks = masks_of(np.random.default_rng(0).normal(size=(1, 3, 10, 10)))[0]
    assert alive == [list(range(10)), *[list(range(3, 10))] * 3]
    assert [mask.sum() for mask in masks] == [30, 10]  # nothing is left of the duplicate but what the first one lacks


def test_the_first_mask_is_kept_however_small_and_later_ones_are_cut_by_earlier_ones(monkeypatch):
    cut_as_told(monkeypatch, rows_mask(0), rows_mask(4), rows_mask(0, 1, 2), rows_mask(3))
    masks = masks_of(np.random.default_rng(0).normal(size=(1, 3, 10, 10)), min_area=0.1)[0]
    assert [mask.sum() for mask in masks] == [10, 20]


def test_a_mask_that_is_mostly_a_hole_is_dropped(monkeypatch):
    ring = torch.zeros(1, 10, 10, dtype=torch.bool)
    ring[:, 1:9, 1:9] = True
    ring[:, 2:8, 2:8] = False
    cut_as_told(monkeypatch, ring, rows_mask(9), rows_mask(), rows_mask())
    assert [mask.sum() for mask in masks_of(np.random.default_rng(0).normal(size=(1, 3, 10, 10)))[0]] == [10]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_image_without_contrast_has_no_region(value):
    assert masks_of(np.full((2, 4, 6, 6), value)) == [[], []]
