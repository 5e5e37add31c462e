"""Batched MaskCut against the plain one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from build.ops.maskcut import foreground, maskcut
from build.ops.reference import foreground as slow_foreground
from build.ops.reference import maskcut as slow_maskcut
from build.ops.rounds import Regions

OPTIONS = {"tau": 0.3, "num_regions": 3, "min_area": 0.01, "max_iou": 0.5}


def run(features, **options):
    return maskcut(torch.from_numpy(np.asarray(features, np.float32)), **{**OPTIONS, **options})


def masks_of(found: Regions, k: int):
    return [mask.numpy() for mask, kept in zip(found.masks[k], found.kept[k], strict=True) if kept]


def scenes(count, size=14, seed=0):
    """Images of two or three boxes of one feature each on a background, with noise."""
    generator = np.random.default_rng(seed)
    out = generator.normal(scale=0.15, size=(count, 5, size, size))
    for image in out:
        image[0] += 1
        for k in range(1, int(generator.integers(3, 5))):
            top, left = generator.integers(0, size - 5, 2)
            high, wide = generator.integers(3, 6, 2)
            image[:, top : top + high, left : left + wide] *= 0.3
            image[0, top : top + high, left : left + wide] = 0
            image[k, top : top + high, left : left + wide] += 1
    return out.astype(np.float32)


def test_masks_equal_the_reference():
    features = scenes(40)
    found = run(features)
    same = total = 0
    for k, image in enumerate(features):
        expected, masks = slow_maskcut(image, **OPTIONS), masks_of(found, k)
        total += max(len(expected), len(masks))
        same += sum(np.array_equal(a, b) for a, b in zip(expected, masks, strict=False))
    assert total > 60
    assert same >= 0.98 * total


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_masks_do_not_depend_on_the_batch(batch):
    features = scenes(16, seed=1)
    together = run(features)
    for k in range(0, 16, batch):
        part = run(features[k : k + batch])
        assert torch.equal(part.masks, together.masks[k : k + batch])
        assert torch.equal(part.kept, together.kept[k : k + batch])


def test_rounds_do_not_share_patches(monkeypatch):
    monkeypatch.setattr("build.ops.maskcut.fill_holes", lambda masks: masks)
    found = run(np.random.default_rng(0).normal(size=(30, 3, 8, 8)))
    assert found.masks.sum(dim=1).max() == 1


def test_holes_are_filled():
    features = np.zeros((1, 2, 12, 12))
    features[:, 0] = 1
    features[0, :, 2:9, 2:9] = np.array([0.0, 1.0])[:, None, None]
    features[0, :, 4:7, 4:7] = np.array([1.0, 0.0])[:, None, None]
    assert masks_of(run(features), 0)[0].sum() == 49


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 7), st.integers(2, 7)).flatmap(
        lambda shape: st_numpy.arrays(np.float32, shape, elements=st.floats(-10, 10, width=32))
    ),
    st.floats(-1, 1),
)
def test_any_features_yield_valid_masks(features, tau):
    found = run(features, tau=tau)
    assert found.masks.shape == (len(features), 3, *features.shape[2:])
    area = found.masks.flatten(2).float().mean(2)
    assert ((area > 0.01) == found.kept).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_image_without_contrast_has_no_region(value):
    assert not run(np.full((2, 4, 6, 6), value)).kept.any()


@given(st_numpy.arrays(np.float64, (4, 5), elements=st.integers(-50, 50)), st_numpy.arrays(np.bool_, (4, 5)))
@settings(deadline=None)
def test_the_foreground_equals_the_reference(vector, alive):
    side, seed = foreground(torch.from_numpy(vector)[None], torch.from_numpy(alive)[None])
    expected, place = slow_foreground(vector, alive)
    np.testing.assert_array_equal(side[0].numpy(), expected)
    assert int(seed[0]) == place[0] * 5 + place[1]


@given(st_numpy.arrays(np.float64, (4, 5), elements=st.integers(-50, 50)))
@settings(deadline=None)
def test_the_foreground_does_not_depend_on_the_sign(vector):
    alive = torch.ones(1, 4, 5, dtype=torch.bool)
    side, seed = foreground(torch.from_numpy(vector)[None], alive)
    other, other_seed = foreground(torch.from_numpy(-vector)[None], alive)
    assert torch.equal(side, other)
    assert torch.equal(seed, other_seed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_finds_the_same_masks():
    features = torch.from_numpy(scenes(40))
    here, there = maskcut(features, **OPTIONS), maskcut(features.cuda(), **OPTIONS)
    assert (there.masks.cpu() == here.masks).flatten(2).all(2).float().mean() >= 0.98
