import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlimagenet_data.views.polygons import area_of, cell_cover, clip, contains, subtract

SQUARE = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))
numbers = st.floats(-5, 15, allow_nan=False).map(lambda value: round(value, 3))
boxes = st.tuples(numbers, numbers, st.floats(0.01, 12), st.floats(0.01, 12), st.floats(0, 3.2))


def turned_box(box):
    x, y, width, height, angle = box
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return tuple((float(px), float(py)) for px, py in corners @ turn.T + (x, y))


def sampled_cover(polygon, size, steps=64):
    height, width = size
    ys, xs = (np.mgrid[0 : height * steps, 0 : width * steps] + 0.5) / steps
    return contains(polygon, xs, ys).reshape(height, steps, width, steps).mean(axis=(1, 3))


@given(boxes)
def test_cover_adds_up_to_the_area_inside_the_grid(box):
    polygon = turned_box(box)
    frame = ((0.0, 0.0), (10.0, 0.0), (10.0, 8.0), (0.0, 8.0))
    cover = cell_cover([polygon], (8, 10))
    assert cover.min() >= 0
    assert cover.max() <= 1
    assert cover.sum() == pytest.approx(area_of(clip(polygon, frame)), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_cover_agrees_with_supersampling_in_every_cell(seed):
    generator = np.random.default_rng(seed)
    polygon = turned_box((*generator.uniform(-3, 8, 2), *generator.uniform(0.2, 10, 2), generator.uniform(0, 3.2)))
    # per cell, an edge is off by at most one row of samples
    assert np.abs(cell_cover([polygon], (8, 10)) - sampled_cover(polygon, (8, 10))).max() < 4 / 64


@given(boxes)
def test_cover_does_not_depend_on_orientation(box):
    polygon = turned_box(box)
    np.testing.assert_allclose(cell_cover([polygon], (6, 6)), cell_cover([polygon[::-1]], (6, 6)), atol=1e-12)


@given(boxes, boxes)
def test_intersection_and_difference_add_up_to_the_whole(a, b):
    a, b = turned_box(a), turned_box(b)
    both, rest = clip(a, b), subtract(a, b)
    assert area_of(both) + sum(area_of(piece) for piece in rest) == pytest.approx(area_of(a), abs=1e-6)
    assert area_of(both) == pytest.approx(area_of(clip(b, a)), abs=1e-6)
    for piece in rest:
        assert area_of(clip(piece, b)) == pytest.approx(0, abs=1e-6)


def test_disjoint_polygons_do_not_clip_or_subtract():
    far = ((10.0, 10.0), (11.0, 10.0), (11.0, 11.0))
    assert clip(SQUARE, far) == ()
    assert sum(area_of(piece) for piece in subtract(SQUARE, far)) == pytest.approx(16)


def test_a_hole_without_area_removes_nothing():
    assert subtract(SQUARE, ((1.0, 1.0), (2.0, 2.0), (3.0, 3.0))) == [SQUARE]


def test_edge_points_are_inside():
    inside = contains(SQUARE, np.array([0.0, 4.0, 2.0, 4.001]), np.array([0.0, 4.0, 0.0, 2.0]))
    assert inside.tolist() == [True, True, True, False]
