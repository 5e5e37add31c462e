import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from mlimagenet_data.views.boxes import Box, cell_overlap
from tests.support.reference import region_shares, resample_mask, visible_cells

masks = st_numpy.arrays(np.bool_, st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=12))
edges = st.floats(-1, 2, allow_nan=False)
boxes = st.builds(Box, edges, edges, edges, edges)


def slow_visible(mask, box):
    height, width = mask.shape
    total = 0.0
    for r in range(height):
        for c in range(width):
            if mask[r, c]:
                high = max(0.0, min(r + 1, box.bottom * height) - max(r, box.top * height))
                wide = max(0.0, min(c + 1, box.right * width) - max(c, box.left * width))
                total += high * wide
    return total


@given(masks, boxes)
def test_visible_cells_agree_with_a_loop(mask, box):
    assert visible_cells(mask, box) == pytest.approx(slow_visible(mask, box), abs=1e-9)


@given(masks, boxes, st.floats(0, 1))
def test_shrinking_a_box_never_raises_visibility(mask, box, share):
    smaller = Box(
        box.top, box.left, box.top + share * (box.bottom - box.top), box.left + share * (box.right - box.left)
    )
    assert region_shares(mask, smaller, 1.0)[0] <= region_shares(mask, box, 1.0)[0] + 1e-12


@given(masks, st.floats(0, 1))
def test_two_parts_add_up_to_the_whole(mask, cut):
    left, right = Box(0, 0, 1, cut), Box(0, cut, 1, 1)
    assert visible_cells(mask, left) + visible_cells(mask, right) == pytest.approx(mask.sum())


def test_visibility_and_coverage_have_the_expected_values():
    mask = np.zeros((4, 4), bool)
    mask[1, :2] = True
    assert region_shares(mask, Box(0, 0, 1, 1), 1.0) == (1.0, 0.125)
    assert region_shares(mask, Box(0, 0, 1, 1), 2.0) == (1.0, 0.0625)  # as much padding as image
    assert region_shares(mask, Box(0.25, 0, 0.5, 0.25), 1 / 16) == (0.5, 1.0)
    assert region_shares(np.zeros((4, 4), bool), Box(0, 0, 1, 1), 1.0) == (0.0, 0.0)
    assert region_shares(mask, Box(0.5, 0.5, 0.5, 0.5), 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("start", "stop", "expected"), [(0.5, 2.25, [0.5, 1, 0.25]), (2, 1, [0, 0, 0]), (-5, 9, [1, 1, 1])]
)
def test_cell_overlap_returns_the_covered_share_of_each_cell(start, stop, expected):
    assert cell_overlap(start, stop, 3).tolist() == expected


@given(masks, st.integers(1, 9), st.integers(1, 9))
def test_resampling_agrees_with_a_shared_fine_grid(mask, height, width):
    fine = mask.repeat(height, axis=0).repeat(width, axis=1).astype(float)
    expected = fine.reshape(height, mask.shape[0], width, mask.shape[1]).mean(axis=(1, 3))
    np.testing.assert_allclose(resample_mask(mask, (height, width)), expected, atol=1e-9)
