import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import ndimage

from build.ops.components import _labels, component_at, fill_holes

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


def spiral(size):
    mask, (r, c), (dr, dc) = np.zeros((size, size), bool), (0, 0), (0, 1)
    mask[0, 0] = True
    for length in [size - 1, *(n for k in range(size - 1, 0, -2) for n in (k, k))]:
        for _ in range(length):
            if 0 <= r + dr < size and 0 <= c + dc < size:
                r, c = r + dr, c + dc
                mask[r, c] = True
        dr, dc = dc, -dr
    return mask


def serpentine(size):
    mask = np.zeros((size, size), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    return mask


def test_winding_and_random_patterns_take_fewer_steps_than_other_devices_do(monkeypatch):
    """On other devices the steps do not end early, so there must be enough of them."""
    size = 63
    generator = np.random.default_rng(0)
    winding = [
        turned for mask in (spiral(size), serpentine(size)) for turned in (mask, mask.T, mask[::-1], mask[:, ::-1])
    ]
    noise = [generator.random((size, size)) < share for share in (0.4, 0.55, 0.6, 0.65) for _ in range(20)]
    steps = []
    equal = torch.equal
    monkeypatch.setattr(torch, "equal", lambda a, b: steps.append(1) or equal(a, b))
    for mask in (*winding, *noise):
        steps.clear()
        found = _labels(torch.from_numpy(mask.copy())[None])[0].numpy()
        assert len(steps) <= 10  # of 14
        labels, count = ndimage.label(mask)
        pairs = set(zip(found[mask].tolist(), labels[mask].tolist(), strict=True))
        assert len(pairs) == count == len(set(found[mask]))
    assert ndimage.label(winding[0])[1] == ndimage.label(winding[4])[1] == 1
