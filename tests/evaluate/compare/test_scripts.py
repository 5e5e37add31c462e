"""The figures equal those of independent scripts, which lie beside the real test data, on annotations made up for it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.evaluate.compare.report import compare
from mlimagenet_data.evaluate.sets.boxes import open_boxes
from mlimagenet_data.evaluate.sets.masks import open_masks
from tests.support.annotated import region, write_rows

pytestmark = [pytest.mark.data, pytest.mark.slow]
ROOT = Path(__file__).parents[3]
LABELS = {
    "f1": "f1", "precision": "precision", "recall": "recall", "second_recall": "others_found", "added": "added",
    "added_precision": "added_right", "labels_an_image": "labels_per_image", "top1_real": "best_right",
}  # fmt: skip
MASK_REGIONS = {
    "regions_per_image": "regions_per_image", "mean_best_iou_area_1pct": "best_iou_1pct",
    "mean_best_iou_area_5pct": "best_iou_5pct", "recall_iou50_area_1pct": "recall_iou50", "ar10_area_1pct": "ar10",
    "grounded": "grounded", "grounded_of": "grounded_of",
}  # fmt: skip


@pytest.fixture(scope="module")
def script(real_data):
    """`script(name, ...)` runs a script and returns what it prints."""
    folder = real_data.parent / "tools"

    def run(name, *arguments):
        if not (folder / name).is_file():
            pytest.skip(f"{folder / name} does not exist, so there is nothing to compare with")
        command = [sys.executable, str(folder / name), *map(str, arguments)]
        known = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=known)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def made_up_regions(generator, classes):
    """Return up to twelve regions: blobs on several grids, some empty, with random classes."""
    out = []
    for _ in range(generator.integers(0, 13)):
        grid = (28, 28) if generator.random() < 0.7 else tuple(generator.integers(4, 40, 2))
        top, left = (generator.integers(0, side) for side in grid)
        height, width = (generator.integers(0, side) for side in grid)
        mask = np.zeros(grid, np.bool_)
        mask[top : top + height, left : left + width] = generator.random() < 0.95
        ranking = generator.choice(classes, 3, replace=False).tolist()
        scores = sorted(generator.uniform(0.01, 1, 3).tolist(), reverse=True)
        found = region(mask, ranking[0], scores[0], list(zip(ranking[1:], scores[1:], strict=True)))
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            sides = (columns.size / grid[1], rows.size / grid[0])
            found["bbox"] = [columns[0] / grid[1], rows[0] / grid[0], *sides]
        else:
            found["bbox"] = [0.0] * 4
        out.append(found)
    return out


def made_up_row(generator, image_id, file_name, size, label, likely):
    """Return a row whose labels are often likely ones, best first."""
    others = np.setdiff1d(np.arange(1000), likely)
    classes = [*likely, *generator.choice(others, 4, replace=False).tolist()]
    chosen = generator.permutation(classes)[: generator.integers(0, 5)].tolist()
    scores = sorted(generator.uniform(0.01, 1, len(chosen)).tolist(), reverse=True)
    regions = made_up_regions(generator, classes)
    return {
        "image_id": image_id, "file_name": file_name, "label": label, "height": size[0], "width": size[1], "labels": chosen,
        "scores": scores, "regions": regions, "status": "ok" if regions else "no_regions",
    }  # fmt: skip


@pytest.fixture(scope="module")
def photographs(real_data, tmp_path_factory):
    """What people say about ImageNet photographs, and two datasets made up for some of them."""
    entries = json.loads((real_data / "imagenet-val" / "truth.json").read_text())
    folders = []
    for seed in (0, 1):
        generator, rows = np.random.default_rng(seed), []
        for image_id, entry in list(entries.items())[::4]:
            if generator.random() < 0.9:
                likely = sorted({*entry["real"], entry["original"]})
                rows.append(made_up_row(generator, image_id, f"{image_id}.JPEG", (227, 227), entry["original"], likely))
        folders.append(write_rows(tmp_path_factory.mktemp("photographs"), rows))
    return real_data / "imagenet-val", *folders


@pytest.fixture(scope="module")
def scenes(real_data, tmp_path_factory):
    """What people say about COCO photographs, and two datasets made up for some of them."""
    images = json.loads((real_data / "coco" / "ground_truth.json").read_text())["images"]
    classes = json.loads((real_data / "coco" / "coco_to_imagenet.json").read_text())["classes"]
    folders = []
    for seed in (0, 1):
        generator, rows = np.random.default_rng(seed), []
        for image in sorted(images, key=lambda image: image["image_id"]):
            if generator.random() < 0.9:
                names = sorted({item["coco_class"] for item in image["regions"]} & set(classes))
                likely = [classes[name][0] for name in names] + [281]
                size, name = (image["height"], image["width"]), image["image_id"]
                rows.append(made_up_row(generator, name, f"{name}.jpg", size, None, sorted(set(likely))))
        folders.append(write_rows(tmp_path_factory.mktemp("scenes"), rows))
    return real_data / "coco", *folders


def store(folder):
    return AnnotationStore(folder, "train")


def values(figures, side="value"):
    return {name: getattr(figure, side).value for name, figure in figures.figures.items() if getattr(figure, side)}


def test_label_sets_and_boxes(photographs, script):
    folder, one, other = photographs
    expected = json.loads(script("evaluate_imagenet.py", folder, one, "--json"))
    found = compare(open_boxes(folder / "truth.json"), store(one), store(other), crops=0, draws=200)
    assert (found.images, found.missing) == (expected.pop("images"), expected.pop("images_missing"))
    assert found.missing > 400
    labels, single = found.groups["labels"], values(found.groups["labels"], "baseline")
    for name, mine in LABELS.items():
        assert values(labels)[mine] == pytest.approx(expected.pop(name), abs=1e-6), name
    for name in ("f1", "precision", "recall"):
        assert single[name] == pytest.approx(expected.pop(f"{name}_single"), abs=1e-6), name
    regions = values(found.groups["regions"])
    for name in ("corloc", "loc_named"):
        assert 0 < regions[name] == pytest.approx(expected.pop(name), abs=1e-6), name
    wrong = values(found.groups["scores"])["wrong_not_best"]
    assert wrong == pytest.approx(expected.pop("wrong_originals_below"), abs=1e-6)
    assert not expected
    lines = script("evaluate_imagenet.py", folder, one, "--against", other, "--bootstrap", 200).splitlines()
    for name in ("f1", "second_recall", "added_precision"):
        line = next(line for line in lines if line.startswith(f"{name} "))
        printed = [float(number) for number in re.findall(r"[-+]?\d+\.\d+", line)[1:]]  # with three decimals
        assert labels.figures[LABELS[name]].other_difference == pytest.approx(printed, abs=5.1e-4)


def test_masks(scenes, script):
    folder, one, other = scenes
    printed = json.loads(script("evaluate.py", folder, one, "--against", other, "--json"))
    expected = {name: value for name, value in printed.items() if not name.startswith("difference")}
    found = compare(open_masks(folder), store(one), store(other), crops=0, draws=4000)
    assert (found.images, found.missing) == (expected.pop("images"), expected.pop("images_missing"))
    assert found.missing > 0
    mine = values(found.groups["labels"])
    mine |= {name: values(found.groups["regions"])[own] for name, own in MASK_REGIONS.items()}
    assert mine.keys() == expected.keys()
    for name, value in expected.items():
        assert mine[name] == pytest.approx(value, abs=1e-6), name
    for name in ("f1@0.1", "multi_object@0.25"):
        _, low, high = (float(number) for number in re.findall(r"[-+]\d+\.\d+", printed[f"difference {name}"]))
        assert found.groups["labels"].figures[name].other_difference[1:] == pytest.approx((low, high), abs=5.1e-4)


def test_crops_against_boxes(photographs, script):
    folder, one, _ = photographs
    expected = json.loads(script("evaluate_crops.py", folder, one, "--crops", 5, "--json"))
    crops = compare(open_boxes(folder / "truth.json"), store(one), crops=5, draws=0).groups["crops"]
    assert values(crops, "baseline")["wrong"] == pytest.approx(expected.pop("wrong_plain"), abs=1e-6)
    assert values(crops) == pytest.approx(expected, abs=1e-6)


def test_crops_against_masks(scenes, script):
    folder, one, _ = scenes
    expected = json.loads(script("evaluate_crops.py", folder, one, "--crops", 5, "--json"))
    crops = compare(open_masks(folder), store(one), crops=5, draws=0).groups["crops"]
    mine = {f"{name}_crop": value for name, value in values(crops).items()}
    mine |= {f"{name}_image": value for name, value in values(crops, "baseline").items()}
    assert mine == pytest.approx(expected, abs=1e-6)
