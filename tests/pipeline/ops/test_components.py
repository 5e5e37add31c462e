import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import ndimage

from build.ops.components import component_at, fill_holes

shapes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 8))
masks_of_any_shape = shapes.flatmap(lambda shape: st_numpy.arrays(np.bool_, shape))


@given(masks_of_any_shape, st.data())
def test_components_equal_scipys(masks, data):
    cells = masks[0].size
    seeds = data.draw(st.lists(st.integers(0, cells - 1), min_size=len(masks), max_size=len(masks)))
    found = component_at(torch.from_numpy(masks), torch.tensor(seeds)).numpy()
    for mask, seed, one in zip(masks, seeds, found, strict=True):
        labels, _ = ndimage.label(mask)
        here = labels.ravel()[seed]
        np.testing.assert_array_equal(one, (labels == here) & bool(here))


@given(masks_of_any_shape)
def test_filled_holes_equal_scipys(masks):
    expected = np.stack([ndimage.binary_fill_holes(mask) for mask in masks])
    np.testing.assert_array_equal(fill_holes(torch.from_numpy(masks)).numpy(), expected)


def test_a_spiral_is_one_component():
    size = 31
    mask, (r, c), (dr, dc) = np.zeros((size, size), bool), (0, 0), (0, 1)
    mask[0, 0] = True
    for length in [size - 1, *(n for k in range(size - 1, 0, -2) for n in (k, k))]:
        for _ in range(length):
            if 0 <= r + dr < size and 0 <= c + dc < size:
                r, c = r + dr, c + dc
                mask[r, c] = True
        dr, dc = dc, -dr
    assert ndimage.label(mask)[1] == 1
    inner = int(np.flatnonzero(mask)[len(np.flatnonzero(mask)) // 2])
    np.testing.assert_array_equal(component_at(torch.from_numpy(mask)[None], torch.tensor([inner]))[0].numpy(), mask)
