import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.evaluate.compare.crops import (
    GONE,
    THERE,
    UNSURE,
    ImageCrops,
    box_crop_counts,
    box_crop_measure,
    box_states,
    crop_targets,
    draw_crops,
    mask_crop_counts,
    mask_crop_measure,
    mask_states,
    whole_targets,
)
from mlimagenet_data.evaluate.compare.matching import Matched
from mlimagenet_data.evaluate.sets.truth import MaskedObject, MaskImage, MaskTruth
from mlimagenet_data.labelling.policy import LabelPolicy
from tests.support.annotated import random_rows, row, write_images, write_rows

SIZE = (20, 30)


@st.composite
def crops(draw):
    top, left = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
    return top, left, draw(st.integers(1, SIZE[0] - top)), draw(st.integers(1, SIZE[1] - left))


def state_of(seen, total, view):
    visibility, coverage = seen / max(total, 1), seen / view
    if visibility >= 0.5 or coverage >= 0.25:
        return THERE
    return GONE if visibility <= 0.1 and coverage <= 0.05 else UNSURE


def pixels(box):
    out = np.zeros(SIZE, np.bool_)
    out[box[0] : box[0] + box[2], box[1] : box[1] + box[3]] = True
    return out


def truth_of(masks):
    of_class = np.zeros((1000, 2), np.bool_)
    of_class[3, 0] = of_class[[4, 5], 1] = True
    objects = [MaskedObject(column, False, 0.5, m.shape, encode_mask(m)) for column, m in masks]
    return MaskTruth(("a", "b"), of_class, (MaskImage(SIZE, tuple(objects)),))


@settings(max_examples=60, deadline=None)
@given(st.lists(crops(), min_size=1, max_size=3), st.lists(crops(), min_size=1, max_size=3))
def test_states_equal_a_count_of_pixels(views, objects):
    seen = ImageCrops(0, SIZE, np.array(views))
    table = [
        [((pixels(view) & pixels(box)).sum(), box[2] * box[3], view[2] * view[3]) for box in objects] for view in views
    ]
    expected = [max(state_of(*pair) for pair in pairs) for pairs in table]
    close = [any(min(abs(s / t - 0.5), abs(s / t - 0.1), abs(s / v - 0.25), abs(s / v - 0.05)) < 1e-9 for s, t, v in pairs)
             for pairs in table]  # fmt: skip
    boxes = np.array([[x / SIZE[1], y / SIZE[0], (x + w) / SIZE[1], (y + h) / SIZE[0]] for y, x, h, w in objects])
    for one, other, is_close in zip(box_states(boxes, seen), expected, close, strict=True):
        assert one == other or is_close  # boxes are shares, which round
    truth = truth_of([(1, pixels(box)) for box in objects])
    states = mask_states(truth, truth.images[0], seen)
    assert states[:, 1].tolist() == expected
    assert (states[:, 0] == GONE).all()


def test_crops_scale_with_the_image():
    truth = truth_of([(0, pixels((0, 0, 20, 15)))])
    half = ImageCrops(0, (10, 15), np.array([[0, 7, 10, 8], [0, 0, 10, 15]]))
    assert mask_states(truth, truth.images[0], half)[:, 0].tolist() == [UNSURE, THERE]


@pytest.fixture
def photographs(tmp_path):
    rows = random_rows(6, seed=2)
    return write_rows(tmp_path / "set", rows), write_images(tmp_path / "images", rows)


def test_crops_are_those_of_torchvision_and_targets_those_of_the_loader(photographs):
    store = AnnotationStore(photographs[0], "train")
    matched = Matched(store, np.array([3, -1, 0, 5]))
    assert matched.croppable() == [2, 0, 3]  # in the order of the dataset's rows
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    drawn = draw_crops(matched, matched.croppable(), 4, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    loader = MultiLabelImageNet(photographs[1], annotations=photographs[0])
    transform = v2.RandomResizedCrop(16)
    for found, index in zip(drawn, (0, 3, 5), strict=True):
        targets, size = crop_targets(store.record(index), found), store.record(index).size
        for target, box in zip(targets, found.boxes.tolist(), strict=True):
            made = transform.make_params([torch.zeros(1, *size)])
            assert box == [made[name] for name in ("top", "left", "height", "width")]
            assert target.tolist() == (loader.labels_for(index, tuple(box)) > 0).tolist()
        whole = loader.labels_for(index, (0, 0, *size)) > 0
        assert (whole_targets(store.record(index), found) == whole.numpy()).all()
    assert not crop_targets(None, drawn[0]).any()


def test_targets_of_a_copy_of_another_size_are_the_same(tmp_path):
    half = np.zeros((4, 4), np.bool_)
    half[:, :2] = True
    rows = [row("a", size, [], labels=[(3, 0.9)]) for size in ((20, 30), (40, 60))]
    for number, item in enumerate(rows):
        item["image_id"] = f"{number}"
        item["regions"] = [
            {"mask": {"size": [4, 4], "counts": encode_mask(half)}, "bbox": [0, 0, 0.5, 1], "area": 0.5, "label": 3,
             "score": 0.9, "topk_labels": [3], "topk_scores": [0.9], "alignment": 0.5}
        ]  # fmt: skip
    store = AnnotationStore(write_rows(tmp_path, rows), "train")
    seen = ImageCrops(0, (20, 30), np.array([[0, 0, 20, 12], [3, 14, 17, 14]]))
    for number in (0, 1):
        assert crop_targets(store.record(number), seen)[:, 3].tolist() == [True, False]
        lenient = LabelPolicy(visibility=0.05, coverage=0.02)
        assert crop_targets(store.record(number), seen, lenient)[:, 3].all()


def test_box_crops_by_hand():
    states = np.array([GONE, GONE, THERE, THERE, THERE, UNSURE])
    named, empty = np.array([1, 0, 1, 0, 0, 0], np.bool_), np.array([0, 0, 0, 1, 0, 1], np.bool_)
    counts = box_crop_counts(states, named, empty)
    assert counts == [2, 1, 3, 1, 1]
    found = {
        name: value[0]
        for name, value in box_crop_measure(np.array([counts, [0] * 5], np.float64))(np.ones((1, 2))).items()
    }
    expected = {"wrong": 3 / 5, "there_kept": 1 / 3, "gone_told": 1 / 2, "balanced": 5 / 12, "empty": 1 / 3, "crops": 5}
    assert found == pytest.approx(expected)


def test_mask_crops_by_hand():
    targets = np.zeros((3, 1000), np.bool_)
    targets[0, [3, 4, 5]] = targets[1, 3] = targets[2, 700] = True
    states = np.array([[THERE, UNSURE], [GONE, THERE], [THERE, GONE]], np.int8)
    counts = mask_crop_counts(truth_of([]), states, targets)
    assert counts == [1, 2, 3]  # the undecided class of the first crop is left out
    found = {
        name: value[0] for name, value in mask_crop_measure(np.array([counts], np.float64))(np.ones((1, 1))).items()
    }
    assert found == pytest.approx({"f1": 2 / 5, "precision": 1 / 2, "recall": 1 / 3})
