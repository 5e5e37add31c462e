import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlimagenet_data.views.boxes import Box
from mlimagenet_data.views.view import View, view_of_box

IMAGE = (30, 40)
boxes = st.tuples(st.floats(-10, 40), st.floats(-10, 50), st.floats(0.1, 60), st.floats(0.1, 60))


def rotation(degrees, size=IMAGE):
    turn = np.deg2rad(degrees)
    y, x = size[0] / 2, size[1] / 2
    cos, sin = np.cos(turn), np.sin(turn)
    return (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, 0.0, 0.0, 1.0)


@given(boxes)
def test_view_of_box_equals_a_crop(box):
    top, left, height, width = (round(value) for value in box)
    height, width = max(height, 1), max(width, 1)
    by_crop = View.of(*IMAGE).crop(top, left, height, width)
    by_box = view_of_box(IMAGE, top, left, height, width)
    assert by_box.visible_area == pytest.approx(by_crop.visible_area, abs=1e-12)
    assert by_box.area == pytest.approx(by_crop.area)
    assert (by_box.box or Box(0, 0, 0, 0)).area == pytest.approx((by_crop.box or Box(0, 0, 0, 0)).area)


@given(st.lists(st.tuples(st.floats(0, 29), st.floats(0, 39), st.floats(0.1, 20), st.floats(0.1, 20)), max_size=5))
def test_overlapping_erased_boxes_are_subtracted_once(holes):
    view = View.of(*IMAGE)
    for hole in holes:
        view = view.erase(*hole)
    ys, xs = (np.mgrid[0:300, 0:400] + 0.5) / 10
    left = np.ones(ys.shape, bool)
    for top, first, height, width in holes:
        left &= ~((ys >= top) & (ys < top + height) & (xs >= first) & (xs < first + width))
    assert view.visible_area == pytest.approx(left.mean(), abs=0.02 * max(len(holes), 1))
    np.testing.assert_allclose(view.cells(IMAGE).sum() / (30 * 40), view.visible_area, atol=1e-9)


@given(boxes, st.floats(-180, 180))
def test_cells_add_up_to_the_visible_area_under_rotations(box, degrees):
    view = View.of(*IMAGE).warp(rotation(degrees), IMAGE).crop(*(round(value) for value in box[:2]), 12, 17)
    assert view.cells((6, 8)).mean() == pytest.approx(view.visible_area, abs=1e-9)


def test_flipping_twice_is_the_identity():
    view = View.of(*IMAGE)
    assert view.flip_horizontal().flip_horizontal() == view
    assert view.flip_vertical().flip_vertical() == view


def test_quarter_turns_keep_boxes():
    turned = View.of(*IMAGE).crop(0, 0, 30, 20).warp((0.0, 1.0, 0.0, -1.0, 0.0, 30.0, 0.0, 0.0, 1.0), (20, 30))
    assert turned.box == Box(0.0, 0.0, 1.0, 0.5)


def test_sample_shows_the_mask_in_place():
    mask = np.zeros((1, 3, 4), bool)
    mask[0, 1, 2] = True  # rows 10 to 20, columns 20 to 30 of the image
    shown = View.of(*IMAGE).crop(5, 15, 20, 20).flip_horizontal().erase(0, 0, 8, 20).sample(mask)
    expected = np.zeros((20, 20), bool)
    expected[8:15, 5:15] = True
    np.testing.assert_array_equal(shown[0], expected)


def test_sample_shows_nothing_in_padding():
    shown = View.of(*IMAGE).pad(5, 5, 5, 5).sample(np.ones((1, 2, 2), bool))
    assert shown[0, 5:-5, 5:-5].all()
    assert shown.sum() == 30 * 40


def test_keeping_and_erasing_a_box_partition_the_view():
    view = View.of(*IMAGE).warp(rotation(25), IMAGE)
    box = (3.0, 4.0, 10.0, 12.0)
    assert view.keep(*box).visible_area + view.erase(*box).visible_area == pytest.approx(view.visible_area)


@pytest.mark.parametrize("tilt", [-0.051, -0.033, -0.203])
def test_beyond_a_horizon_the_canvas_shows_points_behind_the_viewer(tilt):
    """Each cell's visible share is counted at a grid of points of the canvas, as torchvision and Pillow map them."""
    matrix = (1.0, 0.2, 3.0, -0.1, 1.0, 2.0, tilt, 0.01, 1.0)
    view = View.of(*IMAGE).warp(matrix, IMAGE)
    ys, xs = (np.mgrid[0 : 30 * 40, 0 : 40 * 40] + 0.5) / 40
    depth = tilt * xs + 0.01 * ys + 1.0
    assert depth.min() < 0 < depth.max()
    x, y = (xs + 0.2 * ys + 3.0) / depth, (-0.1 * xs + ys + 2.0) / depth
    inside = (x >= 0) & (x < 40) & (y >= 0) & (y < 30)
    seen = np.zeros((6, 8), bool)
    seen[(y[inside] // 5).astype(int), (x[inside] // 5).astype(int)] = True
    cover = view.cells((6, 8))
    assert (cover[~seen] < 0.01).all()
    assert (cover[seen] > 0).all()
    assert view.visible_area / view.area == pytest.approx(inside.mean(), abs=2e-3)  # as a share of the canvas


def test_without_any_visible_part_a_projective_canvas_has_no_finite_area():
    view = View.of(*IMAGE).warp((1.0, 0.0, 900.0, 0.0, 1.0, 900.0, 1e-4, 0.0, 1.0), IMAGE)
    assert (view.pieces, view.area) == ((), np.inf)
