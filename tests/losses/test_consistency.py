"""Resampling between crop and image grids, and the consistency loss."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.losses.clicks import points_in_crop
from mlimagenet_data.losses.consistency import spatial_consistency, update_memory
from mlimagenet_data.losses.pooled import pool_label_map
from mlimagenet_data.views.grids import edges_of, from_crop, to_crop
from mlimagenet_data.views.view import View

edge = st.floats(-0.5, 1.5)
boxes = st.tuples(edge, edge, edge, edge).filter(lambda e: min(abs(e[2] - e[0]), abs(e[3] - e[1])) > 0.05)
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)


def interval(start, stop, i, count):
    a, b = start + (stop - start) * i / count, start + (stop - start) * (i + 1) / count
    return min(a, b), max(a, b)


def area(first, second):
    """Return the common area of two boxes ((y0, y1), (x0, x1))."""
    sides = [max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in zip(first, second, strict=True)]
    return sides[0] * sides[1]


def cells_of(edges, size):
    top, left, bottom, right = edges
    return {
        (r, c): (interval(top, bottom, r, size[0]), interval(left, right, c, size[1]))
        for r in range(size[0])
        for c in range(size[1])
    }


def slow_carry(values, sources, targets):
    """Return each target cell's mean over known source cells, and its share that they cover."""
    means, shares = {}, {}
    for place, cell in targets.items():
        common = {s: area(cell, sources[s]) for s in sources if not math.isnan(values[s])}
        total = sum(common.values())
        means[place] = sum(values[s] * a for s, a in common.items()) / total if total > 1e-12 else 0.0
        shares[place] = total / area(cell, cell)
    return means, shares


def grid(generator, size, unknown=0.0):
    values = torch.rand(size, dtype=torch.float64, generator=generator)
    values[torch.rand(size, generator=generator) < unknown] = torch.nan
    return values


@settings(deadline=None)
@given(boxes, st.integers(0, 99))
def test_to_crop_weights_image_cells_by_area(edges, seed):
    heat = grid(torch.Generator().manual_seed(seed), (3, 4), unknown=0.3)
    means, shares = to_crop(heat[None, None], torch.tensor([edges], dtype=torch.float64), (2, 3))
    values = {(r, c): float(heat[r, c]) for r in range(3) for c in range(4)}
    slow_means, slow_shares = slow_carry(values, cells_of((0, 0, 1, 1), (3, 4)), cells_of(edges, (2, 3)))
    for (r, c), share in slow_shares.items():
        assert float(shares[0, 0, r, c]) == pytest.approx(share, abs=1e-9)
        if share > 1e-6:
            assert float(means[0, 0, r, c]) == pytest.approx(slow_means[r, c], abs=1e-6)


@settings(deadline=None)
@given(boxes, st.integers(0, 99))
def test_from_crop_weights_crop_cells_by_area(edges, seed):
    found = grid(torch.Generator().manual_seed(seed), (2, 3))
    means, shares = from_crop(found[None, None], torch.tensor([edges], dtype=torch.float64), (3, 4))
    values = {(r, c): float(found[r, c]) for r in range(2) for c in range(3)}
    slow_means, slow_shares = slow_carry(values, cells_of(edges, (2, 3)), cells_of((0, 0, 1, 1), (3, 4)))
    for (r, c), share in slow_shares.items():
        assert float(shares[0, 0, r, c]) == pytest.approx(share, abs=1e-9)
        if share > 1e-6:
            assert float(means[0, 0, r, c]) == pytest.approx(slow_means[r, c], abs=1e-6)


@settings(deadline=None)
@given(
    st.tuples(st.integers(0, 20), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    st.booleans(),
)
def test_edges_and_points_follow_crops_flips_and_scalings(box, flip, upside_down):
    top, left, height, width = box
    view = View.of(30, 40).crop(top, left, height, width).resize(64, 32)
    view = view.flip_horizontal() if flip else view
    view = view.flip_vertical() if upside_down else view
    edges = edges_of(view)
    expected = (top / 30, left / 40, (top + height) / 30, (left + width) / 40)
    expected = (expected[0], expected[3], expected[2], expected[1]) if flip else expected
    expected = (expected[2], expected[1], expected[0], expected[3]) if upside_down else expected
    assert edges == pytest.approx(expected)
    a, b, c, d, e, f, *_ = view.to_image  # maps the canvas point (8, 16) to the image
    place = torch.tensor([[(a * 8 + b * 16 + c) / 40, (d * 8 + e * 16 + f) / 30]], dtype=torch.float64)
    seen, weight = points_in_crop(place, torch.tensor([edges], dtype=torch.float64))
    torch.testing.assert_close(seen, torch.tensor([[8 / 32, 16 / 64]], dtype=torch.float64))
    assert weight.tolist() == [1]


def test_missing_points_and_points_outside_the_crop_have_no_weight():
    points = torch.tensor([[0.1, 0.5], [torch.nan, torch.nan], [0.5, 0.5], [0.75, 0.5]])
    edges = torch.tensor([[0.25, 0.25, 0.75, 0.75]] * 3 + [[0.25, 0.75, 0.75, 0.25]])
    seen, weights = points_in_crop(points, edges)
    assert weights.tolist() == [0, 0, 1, 1]
    assert seen.tolist() == [[0, 0], [0, 0], [0.5, 0.5], [0, 0.5]]


def test_a_rotated_view_has_no_edges():
    with pytest.raises(UntrackableTransformError, match="AutoAugment"):
        edges_of(View.of(20, 30).warp((0.0, 1.0, 0.0, -1.0, 0.0, 20.0, 0.0, 0.0, 1.0), (30, 20)))


def test_a_pooled_label_map_is_the_softmax_of_its_mean_over_the_crop():
    maps = torch.zeros(2, 3, 2, 2)
    maps[:, 0, :, 0], maps[:, 1, :, 1] = 4.0, 8.0
    edges = torch.tensor([[0.0, 0.25, 1.0, 0.75], [2.0, 2.0, 3.0, 3.0]])
    found = pool_label_map(maps, edges)
    torch.testing.assert_close(found[0], torch.tensor([2.0, 4.0, 0.0]).softmax(dim=0))
    assert not found[1].any()


def test_the_loss_is_the_squared_difference_over_remembered_cells():
    maps = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    heat = torch.full((1, 2, 2, 2), 0.9, dtype=torch.float64)
    heat[0, 0, :, 0] = torch.nan
    heat[0, 0, :, 1] = 0.25
    classes = torch.tensor([[2, -1]])
    loss = spatial_consistency(maps, classes, heat, WHOLE)
    assert loss.item() == pytest.approx(0.25**2)
    loss.backward()
    assert maps.grad[0, 2, :, 1].all()
    assert not maps.grad[0, :2].any()
    assert not maps.grad[0, 2, :, 0].any()
    assert float(spatial_consistency(maps.detach(), torch.tensor([[-1, -1]]), heat * torch.nan, WHOLE)) == 0
    generator = torch.Generator().manual_seed(0)
    start = torch.rand((1, 3, 2, 2), dtype=torch.float64, generator=generator).requires_grad_()
    assert gradcheck(lambda m: spatial_consistency(m, classes, heat, WHOLE), (start,))


def test_a_running_average_moves_by_the_share_in_the_crop():
    heat = torch.full((1, 1, 2, 2), 0.4, dtype=torch.float64)
    maps = torch.full((1, 3, 1, 1), 0.8, dtype=torch.float64)
    left_and_a_half = torch.tensor([[0.0, 0.0, 1.0, 0.75]], dtype=torch.float64)
    classes, new = update_memory(maps, torch.tensor([1]), torch.tensor([[1]]), heat, left_and_a_half, momentum=0.5)
    assert classes.tolist() == [[1]]
    torch.testing.assert_close(new[0, 0], torch.tensor([[0.6, 0.5], [0.6, 0.5]], dtype=torch.float64))


def test_a_flipped_crop_updates_the_mirrored_cells():
    maps = torch.tensor([[[[0.9, 0.1]]]], dtype=torch.float64)
    unseen = torch.full((1, 1, 1, 2), torch.nan, dtype=torch.float64)
    flipped = torch.tensor([[0.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    _, new = update_memory(maps, torch.tensor([0]), torch.tensor([[-1]]), unseen, flipped)
    torch.testing.assert_close(new[0, 0, 0], torch.tensor([0.1, 0.9], dtype=torch.float64))


@settings(deadline=None)
@given(st.integers(0, 999))
def test_the_highest_classes_and_the_label_stay(seed):
    generator = torch.Generator().manual_seed(seed)
    slots, count = 3, 6
    maps = torch.rand((1, count, 2, 2), dtype=torch.float64, generator=generator)
    held = torch.randperm(count, generator=generator)[:slots]
    heat = torch.rand((1, slots, 2, 2), dtype=torch.float64, generator=generator)
    label = int(torch.randint(-1, count, (), generator=generator))
    classes, new = update_memory(maps, torch.tensor([label]), held[None], heat, WHOLE, momentum=0.5)
    slow = {k: (maps[0, k] if k not in held.tolist() else None) for k in range(count)}
    for position, k in enumerate(held.tolist()):
        slow[k] = 0.5 * heat[0, position] + 0.5 * maps[0, k]
    in_crop = sorted(range(count), key=lambda k: (k == label, float(maps[0, k].max())), reverse=True)
    offered = set(held.tolist()) | set(in_crop[:slots])
    best = sorted(offered, key=lambda k: (k == label, float(slow[k].max())), reverse=True)[:slots]
    assert classes[0].tolist() == best
    for position, k in enumerate(best):
        torch.testing.assert_close(new[0, position], slow[k])


def test_slots_in_excess_of_the_classes_stay_empty():
    maps = torch.rand(1, 2, 1, 1)
    classes, new = update_memory(
        maps, torch.tensor([-1]), torch.full((1, 4), -1), torch.full((1, 4, 1, 1), torch.nan), WHOLE
    )
    assert sorted(classes[0].tolist()) == [-1, -1, 0, 1]
    assert int(new.isnan().sum()) == 2
