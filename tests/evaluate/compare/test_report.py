import json

import numpy as np
import pytest

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.compare.report import compare
from mlimagenet_data.evaluate.sets.boxes import open_boxes
from mlimagenet_data.evaluate.sets.masks import open_masks
from tests.evaluate.test_truth import mask_folder, picture, thing
from tests.support.annotated import random_rows, row, write_rows

WNIDS = imagenet_classes().wnids


def boxes_truth(path, rows, lacking=1):
    """Write what people say about most rows, and about images that the dataset lacks."""
    generator = np.random.default_rng(1)
    entries = {
        item["image_id"]: {
            "original": item["label"],
            "real": [item["label"], *generator.permutation(7)[: generator.integers(0, 3)].tolist()],
            "boxes": [[0.1, 0.2, 0.8, 0.9]],
        }
        for item in rows[:-2]
    }
    entries |= {f"{WNIDS[1]}/lacking{k}": {"original": 1, "real": [1], "boxes": []} for k in range(lacking)}
    path.write_text(json.dumps(entries))
    return open_boxes(path)


@pytest.fixture
def made_up(tmp_path):
    rows = random_rows(30, seed=4)
    store = AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    return store, boxes_truth(tmp_path / "truth.json", rows)


def test_a_comparison_has_all_groups_and_counts_missing_images(made_up):
    found = compare(made_up[1], made_up[0], crops=3, draws=100)
    assert (found.images, found.missing, found.other_missing) == (29, 1, None)
    assert list(found.groups) == ["labels", "scores", "regions", "crops"]
    for group in found.groups.values():
        for figure in group.figures.values():
            assert np.isnan(figure.value.value) or figure.value.low <= figure.value.high
    assert found.groups["labels"].figures["f1"].baseline is not None
    assert found.groups["regions"].figures["corloc"].baseline is None
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["groups"]["labels"]["baseline"] == "single label"


def test_a_dataset_does_not_differ_from_itself(made_up):
    found = compare(made_up[1], made_up[0], made_up[0], crops=3, draws=50)
    assert found.other_missing == 1
    for group in found.groups.values():
        for figure in group.figures.values():
            assert figure.other == pytest.approx(figure.value, nan_ok=True)
            assert all(v == 0 or np.isnan(v) for v in figure.other_difference)


def test_the_same_seed_gives_the_same_figures(made_up):
    one, other, third = (compare(made_up[1], made_up[0], crops=2, draws=50, seed=s) for s in (3, 3, 4))
    assert str(one.as_dict()) == str(other.as_dict())
    assert str(one.as_dict()) != str(third.as_dict())


def test_images_match_whatever_their_copy_names_them(tmp_path):
    item = row("x", (4, 4), [], label=7, labels=[(7, 0.9)])
    item |= {"image_id": "ILSVRC2012_val_00000009", "file_name": "ILSVRC2012_val_00000009.JPEG"}
    store = AnnotationStore(write_rows(tmp_path / "set", [item]), "train")
    entries = {f"{WNIDS[7]}/ILSVRC2012_val_00000009": {"original": 7, "real": [7], "boxes": []}}
    (tmp_path / "truth.json").write_text(json.dumps(entries))
    found = compare(open_boxes(tmp_path / "truth.json"), store, draws=0)
    assert found.missing == 0
    assert found.groups["labels"].figures["f1"].value.value == 1


def test_a_dataset_of_other_images_is_refused(tmp_path, made_up):
    store = AnnotationStore(write_rows(tmp_path / "other", [row("z", (4, 4), [])]), "train")
    with pytest.raises(EvaluationError, match=r"none of the 29 images of .*truth\.json.*it has n01440764/z"):
        compare(made_up[1], store)


def test_masks_have_no_single_label_unless_the_dataset_knows_one(tmp_path):
    truth = open_masks(mask_folder(tmp_path, picture(thing(), image_id="a")))
    item = row("a", (4, 2), [], label=10, labels=[(10, 0.9)])
    for number, (label, has_single) in enumerate([(10, True), (None, False)]):
        rows = [item | {"label": label, "image_id": "a", "file_name": "a.png"}]
        store = AnnotationStore(write_rows(tmp_path / f"set{number}", rows), "train")
        found = compare(truth, store, crops=2, draws=10)
        assert list(found.groups) == ["labels", "regions", "crops"]
        f1 = found.groups["labels"].figures["best_f1"]
        assert f1.value.value == 1
        assert (f1.baseline is not None) is has_single
        assert found.groups["crops"].baseline == "whole image"
        assert not found.reliability
