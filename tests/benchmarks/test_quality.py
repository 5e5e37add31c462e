import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluation import NAMES, Truth, differences, figures, load_rows, score
from benchmarks.quality import MARK, VARIANTS, _flags, _named, background, gather, line, render, with_difference
from build import BuildConfig, relabel
from build.config.command_line import parse
from mlimagenet_data.annotations.masks import encode_mask

DOG, CAT, CUP = 207, 281, 504


def rle(mask):
    return {"size": list(mask.shape), "counts": encode_mask(mask)}


def box(top, bottom, left, right, size=(20, 20)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def truth(tmp_path):
    """Two images: a dog beside a cup; a crowd of dogs and an object of no ImageNet class."""
    dog, cup = box(0, 10, 0, 10), box(10, 20, 10, 20)
    first = [("dog", dog), ("cup", cup)]
    images = [
        {"image_id": "a", "height": 20, "width": 20, "regions": [annotated(kind, mask) for kind, mask in first]},
        {"image_id": "b", "height": 20, "width": 20, "regions": [annotated("dog", dog, 1), annotated("person", cup)]},
    ]
    (tmp_path / "ground_truth.json").write_text(json.dumps({"images": images}))
    classes = {"dog": [DOG, DOG + 1], "cup": [CUP], "cat": [CAT]}
    (tmp_path / "coco_to_imagenet.json").write_text(json.dumps({"classes": classes}))
    return Truth.load(tmp_path)


def annotated(kind, mask, iscrowd=0):
    return {"coco_class": kind, "area": float(mask.mean()), "mask": rle(mask), "iscrowd": iscrowd}


def region(mask, label, value=0.9):
    return {"mask": rle(mask), "label": label, "score": value}


def test_figures_equal_a_count_by_hand(truth):
    rows = {
        "a": {
            "labels": [DOG, DOG + 1, CAT, CUP, 0], "scores": [0.9, 0.6, 0.3, 0.2, 0.99],
            "regions": [region(box(0, 10, 0, 5), DOG), region(box(15, 20, 0, 5), CUP, 0.5)],
        },
        "b": {"labels": [CAT], "scores": [0.8], "regions": [region(box(0, 20, 0, 20), CAT)]},
    }  # fmt: skip
    scores = score(truth, rows)
    # at 0.1: annotated dog, cup; dog. Predicted dog (once), cat, cup; cat. Right: dog, cup.
    assert scores.pairs[:, 0].tolist() == [[2, 3, 2], [1, 1, 0]]
    found = figures(scores)
    assert found["f1@0.1"] == pytest.approx(2 * 2 / (3 + 4))
    assert found["precision@0.5"] == pytest.approx(1 / 2)
    assert found["two@0.1"] == 1.0
    assert found["two@0.25"] == 0.0
    # objects: dog 0.5 (half of it), cup 0.0, person 0.25; crowds do not count
    assert found["iou5"] == pytest.approx((0.5 + 0.0 + 0.25) / 3)
    assert found["recall"] == pytest.approx(1 / 3)
    assert found["grounded"] == pytest.approx(1 / 2)  # a dog's region on the dog, a cup's not on the cup
    assert (found["labels"], found["regions"]) == (3.0, 1.5)


def test_an_image_without_a_row_counts_as_one_without_labels(truth):
    found = figures(score(truth, {}))
    assert (found["best_f1"], found["iou5"], found["grounded"], found["labels"]) == (0.0, 0.0, 0.0, 0.0)


def test_differences_are_zero_to_itself_and_positive_to_a_worse_dataset(truth):
    good = score(truth, {k: {"labels": [DOG], "scores": [0.9], "regions": []} for k in "ab"})
    bad = score(truth, {})
    assert set(differences(good, good, draws=20).values()) == {(0.0, 0.0)}
    assert differences(good, bad, draws=20)["f1@0.1"][0] > 0


@pytest.mark.data
def test_figures_equal_those_of_the_shared_script(real_data, tmp_path):
    path = real_data.parent / "tools" / "evaluate.py"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    spec = importlib.util.spec_from_file_location("evaluate", path)
    shared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shared)
    images = [p for p in sorted((real_data / "coco" / "images").rglob("*")) if p.is_file()][:12]
    (tmp_path / "images").mkdir()
    for image in images:
        (tmp_path / "images" / image.name).symlink_to(image)
    out = tmp_path / "out"
    small = {"image_size": 192, "scan_size": 0, "label_threshold": 0.02}
    relabel(BuildConfig(images=str(tmp_path / "images"), out=str(out), **small))
    ours = figures(score(Truth.load(real_data / "coco"), load_rows(out)))
    theirs = shared.evaluate(*shared.load_truth(real_data / "coco"), shared.load_predictions(out))
    names = {
        "iou5": "mean_best_iou_area_5pct", "recall": "recall_iou50_area_1pct", "grounded": "grounded", "map": "map",
        "best_f1": "best_f1", "two@0.1": "multi_object@0.1", "precision@0.5": "precision@0.5",
    }  # fmt: skip
    for name, other in names.items():
        assert ours[name] == pytest.approx(theirs[other], abs=1e-6), name


def test_the_build_accepts_every_variant():
    for variant in VARIANTS:
        config = BuildConfig(images="x", **variant.options)
        assert config != BuildConfig(images="x"), variant.name
        shown = _flags(variant.options).split()  # in the report
        assert parse(["--images", "x", *shown]) == config, variant.name


def test_a_difference_is_bold_if_its_interval_excludes_zero():
    assert with_difference(0.5, 0.4, (0.01, 0.2), 2) == "**0.50 (+0.10)**"
    assert with_difference(0.5, 0.4, (-0.01, 0.2), 3) == "0.500 (+0.100)"


def test_gather_puts_photographs_and_imagenet_into_one_folder(tmp_path):
    (tmp_path / "coco" / "images").mkdir(parents=True)
    (tmp_path / "coco" / "images" / "a.jpg").touch()
    (tmp_path / "imagenet" / "train" / "n01440764").mkdir(parents=True)
    for _ in range(2):
        folder = gather(tmp_path / "coco", tmp_path / "imagenet", tmp_path / "both")
    assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "n01440764"]


def test_background_groups_scores_by_the_object_under_the_region(truth):
    regions = [
        region(box(0, 10, 0, 10), DOG, 0.9),
        region(box(10, 20, 10, 20), CUP, 0.8),
        region(box(0, 9, 11, 20), CAT, 0.1),
    ]
    rows = {"a": {"regions": regions}, "b": {"regions": regions}}
    found = background(truth, rows)
    assert found == {
        "a named kind of object": [0.9, 0.8, 0.9], "another object": [0.8], "no annotated object": [0.1, 0.1],
    }  # fmt: skip


def test_docs_quality_has_every_table_that_the_command_writes():
    text = (Path(__file__).parents[2] / "docs" / "quality.md").read_text()
    head, mark, tables = text.partition(MARK)
    assert head.startswith("# ")
    assert mark
    values = dict.fromkeys(NAMES, 0.5)
    facts = {"found": "1 of 2", "on_imagenet": "1.5", "seconds": "3", "figures": values}
    default = {**facts, "intervals": dict.fromkeys(NAMES, (0.4, 0.6))}
    variants = [{**vars(v), **facts, "intervals": dict.fromkeys(NAMES, (0, 0))} for v in VARIANTS]
    rendered = render({
        "date": "", "machine": "", "seconds_an_image": 0.1, "default": default, "variants": variants, "bounds": {"x": values},
        "reject": (0.1,), "background": [["y", "1", "0.5", "1%"]],
    })  # fmt: skip
    for title in [row for row in rendered.splitlines() if row.startswith("###")]:
        assert title in tables
    for variant in VARIANTS:
        assert f"| {_named(vars(variant))} |" in tables, variant.name
    rows = [row for row in tables.splitlines() if "(`--" in row]
    assert len(rows) == len(VARIANTS)  # and no others
    assert line(["figure", "value", "95% interval"]) in tables
