import numpy as np
import pytest

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.evaluate.compare.boxes import box_iou, box_measure, region_boxes
from tests.support.annotated import region, row, write_rows


def mask(top, left, bottom, right, grid=(4, 8)):
    out = np.zeros(grid, np.bool_)
    out[top:bottom, left:right] = True
    return out


def records_of(folder, *regions):
    rows = [row(f"image{k}", (40, 80), list(one), labels=[(0, 0.5)]) for k, one in enumerate(regions)]
    store = AnnotationStore(write_rows(folder, rows), "train")
    return [store.record(k) for k in range(len(rows))]


def test_iou_by_hand():
    one = np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.4]])
    other = np.array([[0, 0, 0.5, 1], [0.5, 0.5, 1, 1], [0.25, 0, 0.75, 0.5]])
    np.testing.assert_allclose(box_iou(one, other), [[0.5, 0, 1 / 3], [0, 0, 0]])
    assert box_iou(one[:0], other).shape == (0, 3)


def test_boxes_bound_the_masks(tmp_path):
    (record,) = records_of(
        tmp_path, [region(mask(1, 2, 3, 4), 0), region(mask(0, 0, 0, 0), 1), region(mask(0, 0, 3, 3, (3, 3)), 2)]
    )
    np.testing.assert_allclose(region_boxes(record), [[2 / 8, 1 / 4, 4 / 8, 3 / 4], [0] * 4, [0, 0, 1, 1]])


def test_regions_against_boxes_by_hand(tmp_path):
    half, rest = mask(0, 0, 4, 4), mask(0, 4, 4, 8)
    records = records_of(
        tmp_path,
        [region(half, 0, 0.9), region(rest, 0, 0.5)],  # the best region named 0 is the one on the box
        [region(half, 7, 0.9), region(rest, 0, 0.5)],  # on the box, but named otherwise
        [region(rest, 0)],
        [region(half, 0)],  # no box
        [],
    )
    box = np.array([[0, 0, 0.5, 1.0]])
    boxes = [box, box, box, np.zeros((0, 4)), box, box]
    found = box_measure(boxes, [*records, None], [0] * 6)(np.ones((1, 6)))
    assert {name: value[0] for name, value in found.items()} == pytest.approx(
        {"corloc": 2 / 5, "loc_named": 1 / 5, "regions_per_image": 6 / 6}
    )
