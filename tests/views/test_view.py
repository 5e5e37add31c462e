import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlimagenet_data.errors import UntrackableTransformError
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


def test_a_horizon_inside_the_image_is_refused():
    with pytest.raises(UntrackableTransformError, match="horizon"):
        View.of(*IMAGE).warp((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -0.05, 0.0, 1.0), IMAGE)
