import math

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from build.ops import pooling
from build.ops.pooling import softmax


def region_weights(masks, size):
    """One image's."""
    tensor = torch.from_numpy(np.stack(masks)) if len(masks) else torch.zeros((0, 2, 2), dtype=torch.bool)
    return pooling.region_weights(tensor[None], size)[0].numpy()


def pool(values, weights):
    """One image's."""
    return pooling.pool(torch.from_numpy(values)[None], torch.from_numpy(weights)[None])[0].numpy()


side = st.integers(1, 7)
any_mask = st.tuples(side, side).flatmap(lambda shape: st_numpy.arrays(np.bool_, shape))


def slow_mean(values, mask):
    """Average a (C, h, w) map over a mask, both repeated up to a grid that fits both."""
    (channels, height, width), (mask_height, mask_width) = values.shape, mask.shape
    rows, columns = math.lcm(height, mask_height), math.lcm(width, mask_width)
    fine_mask = mask.repeat(rows // mask_height, axis=0).repeat(columns // mask_width, axis=1)
    fine = values.repeat(rows // height, axis=1).repeat(columns // width, axis=2)
    return np.array([fine[c][fine_mask].mean() for c in range(channels)])


@settings(deadline=None)
@given(any_mask, st.tuples(side, side), st.integers(0, 1000))
def test_pooling_is_the_mean_over_a_grid_that_fits_both(mask, size, seed):
    assume(mask.any())
    values = np.random.default_rng(seed).normal(size=(3, *size)).astype(np.float32)
    region, whole = pool(values, region_weights([mask], size))
    np.testing.assert_allclose(region, slow_mean(values, mask), atol=1e-5)
    np.testing.assert_allclose(whole, values.mean(axis=(1, 2)), atol=1e-5)


@settings(deadline=None)
@given(
    st.tuples(side, side).flatmap(lambda s: st.lists(st_numpy.arrays(np.bool_, s).filter(np.any), max_size=4)),
    st.tuples(side, side),
)
def test_weights_are_shares_that_sum_to_one(masks, size):
    weights = region_weights(masks, size)
    assert weights.shape == (len(masks) + 1, size[0] * size[1])
    assert weights.dtype == np.float32
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(weights[-1], 1 / weights.shape[1], rtol=1e-6)


def test_a_mask_on_the_maps_own_grid_gives_equal_weights_inside_and_none_outside():
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    np.testing.assert_allclose(region_weights([mask], (3, 4))[0].reshape(3, 4), mask / 2)


def test_pooling_the_label_map_is_the_head_on_pooled_features():
    generator = np.random.default_rng(1)
    features = generator.normal(size=(16, 6, 6)).astype(np.float32)
    weight, bias = generator.normal(size=(9, 16)).astype(np.float32), generator.normal(size=9).astype(np.float32)
    weights = region_weights([generator.random((12, 12)) < 0.3 for _ in range(3)], (6, 6))
    label_map = np.einsum("kc,chw->khw", weight, features) + bias[:, None, None]
    np.testing.assert_allclose(pool(label_map, weights), pool(features, weights) @ weight.T + bias, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 3.0])
def test_softmax_agrees_with_scipy(temperature):
    logits = np.random.default_rng(2).normal(size=(4, 10)).astype(np.float32)
    found = softmax(logits, temperature)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scipy.special.softmax(logits / temperature, axis=-1), atol=1e-5)


def test_softmax_of_huge_logits_does_not_overflow():
    logits = np.array([[1e30, 1e30, -1e30], [-3e38, 3e38, 0.0]], np.float32)
    np.testing.assert_array_equal(softmax(logits, 0.01), [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])


def test_without_regions_only_the_whole_image_is_pooled():
    weights = region_weights([], (2, 3))
    np.testing.assert_allclose(pool(np.arange(6, dtype=np.float32).reshape(1, 2, 3), weights), [[2.5]])
    assert softmax(np.zeros((0, 5), np.float32), 1.0).shape == (0, 5)


def test_an_empty_mask_weighs_nothing_and_batches_do_not_mix():
    masks = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    masks[1, 0, :2] = True
    weights = pooling.region_weights(masks, (2, 2))
    np.testing.assert_allclose(weights[:, :, :].sum(2), [[0, 0, 1], [1, 0, 1]])
    means = pooling.pool(torch.arange(8.0).reshape(2, 1, 2, 2), weights)[..., 0]
    np.testing.assert_allclose(means, [[0, 0, 1.5], [4.5, 0, 5.5]])
