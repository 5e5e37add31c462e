import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.evaluate.compare.masks import mask_label_measure, mask_region_measure, weighted_average_precision
from mlimagenet_data.evaluate.sets.truth import MaskedObject, MaskImage, MaskTruth
from tests.evaluate.compare.test_boxes import mask, records_of
from tests.support.annotated import region

CAT, DOG = 0, 1  # columns; ImageNet classes 10 and 11 are cats, 20 is a dog


def image_of(*objects):
    size = (40, 80)
    found = [MaskedObject(column, crowd, float(m.mean()), m.shape, encode_mask(m)) for column, m, crowd in objects]
    return MaskImage(size, tuple(found))


def truth_of(*images):
    of_class = np.zeros((1000, 2), np.bool_)
    of_class[[10, 11], CAT] = of_class[20, DOG] = True
    return MaskTruth(("cat", "dog"), of_class, tuple(images))


LEFT, RIGHT, QUARTER = mask(0, 0, 4, 4), mask(0, 4, 4, 8), mask(0, 0, 2, 4)


def test_regions_against_masks_by_hand(tmp_path):
    truth = truth_of(
        image_of((CAT, LEFT, False), (DOG, RIGHT, True), (-1, QUARTER, False)),  # the crowd of dogs is no object
        image_of((CAT, RIGHT, False)),
    )
    (record,) = records_of(
        tmp_path, [region(LEFT, 10, 0.9), region(RIGHT, 20, 0.8), region(QUARTER, 11, 0.7), region(RIGHT, 5, 0.6)]
    )
    found = {name: v[0] for name, v in mask_region_measure(truth, [record, None])(np.ones((1, 2))).items()}
    # best IoU: 1 for the cat, 1 for the quarter, 0 in the image that the dataset lacks. Named regions that the image
    # shows: LEFT and QUARTER on the cat (IoU 1 and 0.5), RIGHT a dog without an object to lie on.
    expected = {
        "regions_per_image": 2, "best_iou_1pct": 2 / 3, "best_iou_5pct": 2 / 3, "recall_iou50": 2 / 3, "ar10": 2 / 3,
        "grounded": 2 / 3, "grounded_of": 3,
    }  # fmt: skip
    assert found == pytest.approx(expected)


def test_a_small_region_on_its_object_is_grounded_by_its_centre(tmp_path):
    truth = truth_of(image_of((CAT, mask(0, 0, 4, 8), False)))
    (record,) = records_of(tmp_path, [region(mask(1, 1, 2, 2), 10), region(mask(0, 0, 0, 0), 11, 0.1)])
    found = mask_region_measure(truth, [record])(np.ones((1, 1)))
    assert (found["grounded"][0], found["grounded_of"][0]) == (1, 1)  # an empty region is nowhere
    assert found["best_iou_1pct"][0] == 1 / 32


def test_labels_against_masks_by_hand():
    cat, both = image_of((CAT, LEFT, False)), image_of((CAT, LEFT, False), (DOG, RIGHT, True))
    truth = truth_of(cat, both, both, cat)
    sides = [
        (
            (10, 0.9),
            (11, 0.8),
            (500, 0.7),
            (20, 0.3),
        ),  # one right class, named twice; 500 is not counted; a dog too many
        ((20, 0.6), (10, 0.2)),
        ((11, 0.01),),  # scores too little to be read
        None,
    ]
    found = {name: v[0] for name, v in mask_label_measure(truth, sides)(np.ones((1, 4))).items()}
    assert found["map_classes"] == 1  # two images show dogs
    assert found["map"] == pytest.approx(np.mean([1 / 1, 2 / 2, 3 / 3, 4 / 4]))
    at = {name: found[f"{name}@0.1"] for name in ("precision", "recall", "f1", "multi_object")}
    assert at == pytest.approx({"precision": 3 / 4, "recall": 3 / 6, "f1": 6 / 10, "multi_object": 1 / 2})
    at = {name: found[f"{name}@0.5"] for name in ("precision", "recall", "f1", "multi_object")}
    assert at == pytest.approx({"precision": 1, "recall": 2 / 6, "f1": 4 / 8, "multi_object": 0})
    assert found["best_f1"] == pytest.approx(6 / 10)


def test_only_the_twelve_best_labels_are_read():
    truth = truth_of(image_of((DOG, LEFT, False)))
    side = tuple((k + 100, 0.9) for k in range(12))
    assert mask_label_measure(truth, [((20, 0.95), *side)])(np.ones((1, 1)))["recall@0.1"][0] == 1
    assert mask_label_measure(truth, [(*side, (20, 0.8))])(np.ones((1, 1)))["recall@0.1"][0] == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 3)), min_size=1, max_size=8))
def test_weighted_average_precision_equals_that_of_the_written_out_ranking(items):
    scores, positive, times = (np.array(column) for column in zip(*items, strict=True))
    hits, precisions = 0, []
    written = [bool(p) for _, p, t in sorted(items, key=lambda item: -item[0]) for p in [p] * t]
    for rank, positive_here in enumerate(written, 1):
        hits += positive_here
        precisions += [hits / rank] if positive_here else []
    found = weighted_average_precision(scores / 3, positive, times[None].astype(np.float64))[0]
    assert found == pytest.approx(np.mean(precisions) if precisions else np.nan, nan_ok=True)
