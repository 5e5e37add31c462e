import csv
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from mlimagenet_data.annotations.masks import stretch_mask
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.formats.coco import write_coco
from mlimagenet_data.formats.csv import write_csv
from mlimagenet_data.formats.tsv import write_tsv
from tests.support.annotated import random_rows, region, row, write_rows


@pytest.fixture
def store(tmp_path):
    rows = random_rows(15, seed=4)
    rows[2]["status"] = "unreadable"
    rows[3]["label"] = None
    return AnnotationStore(write_rows(tmp_path / "set", rows), "train")


def test_pycocotools_reads_the_export(store, tmp_path, capsys):
    counts = write_coco(store, tmp_path / "a.json")
    coco = COCO(str(tmp_path / "a.json"))
    assert counts == {"images": 14, "annotations": len(coco.anns), "images_without_size": 0}
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(imagenet_classes().names)
    for number in store.usable_rows().tolist():
        record = store.record(number)
        (image,) = coco.loadImgs(number)
        assert (image["file_name"], image["height"], image["width"]) == (record.file_name, *record.size)
        assert image["labels"] == [index + 1 for index, _ in record.labels]
        assert image["scores"] == pytest.approx([score for _, score in record.labels], abs=1e-6)
        found = coco.loadAnns(coco.getAnnIds(number))
        assert len(found) == len(record.regions)
        for annotation, other in zip(found, record.regions, strict=True):
            mask = stretch_mask(other.mask, *record.size)
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)
            assert annotation["area"] == mask.sum()
            assert annotation["category_id"] == other.label + 1
            x, y, width, height = map(int, annotation["bbox"])
            assert mask[y : y + height, x : x + width].sum() == mask.sum()


def test_an_empty_dataset_can_be_exported(tmp_path, capsys):
    store = AnnotationStore(write_rows(tmp_path / "set", []), "train")
    assert write_coco(store, tmp_path / "a.json") == {"images": 0, "annotations": 0, "images_without_size": 0}
    assert COCO(str(tmp_path / "a.json")).imgs == {}


def test_the_papers_format_has_one_line_per_image(store, tmp_path):
    assert write_tsv(store, tmp_path / "a.tsv") == {"lines": 13, "images_without_original_label": 1}
    lines = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    records = [r for r in map(store.record, store.usable_rows().tolist()) if r.label is not None]
    for (name, original, classes, scores), record in zip(lines, records, strict=True):
        assert record.file_name.endswith(f"/{name}")
        assert int(original) == record.label
        assert [int(k) for k in classes.split(",") if k] == [index for index, _ in record.labels]
        assert [float(s) for s in scores.split(",") if s] == pytest.approx([s for _, s in record.labels], abs=5e-5)


def test_csv_has_one_line_per_label(tmp_path):
    rows = [row("a", (4, 4), [], label=1, labels=[(1, 0.5), (7, 0.25)]), row("b", (4, 4), [], labels=[])]
    store = AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    assert write_csv(store, tmp_path / "a.csv") == {"lines": 2, "images_without_labels": 1}
    with open(tmp_path / "a.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["class"], first["is_original"], first["score"]) == ("1", "1", "0.5")
    assert (second["class"], second["is_original"], second["wnid"]) == ("7", "0", imagenet_classes().wnids[7])
    assert first["image_id"] == store.image_id(0)


def export(folder, out, form, *more):
    return main(["export", str(folder), str(out), "--to", form, *more])


@pytest.mark.parametrize("form", ["coco", "tsv", "csv"])
def test_the_command_exports(store, tmp_path, capsys, form):
    assert export(store.source, tmp_path / "out", form, "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["unreadable_images"] == 1
    assert next(iter(counts.values())) > 0
    assert export(store.source, tmp_path / "again", form) == 0
    said = capsys.readouterr().out
    assert "1 unreadable images" in said
    assert ("1 images without original label" in said) == (form == "tsv")


@pytest.mark.parametrize("form", ["coco", "tsv", "csv"])
def test_shards_hold_what_one_file_holds(store, tmp_path, capsys, form):
    assert export(store.source, tmp_path / "one", form) == 0
    assert export(store.source, tmp_path / "many", form, "--shard-images", "4") == 0  # 14 images
    assert "4 files" in capsys.readouterr().out
    files = sorted((tmp_path / "many").glob("train-*"))
    ending = {"coco": "json"}.get(form, form)
    assert [file.name for file in files] == [f"train-{k:05d}-of-00004.{ending}" for k in range(4)]
    if form == "coco":
        one, parts = json.loads((tmp_path / "one").read_text()), [json.loads(file.read_text()) for file in files]
        for name in ("images", "annotations"):
            assert [item for part in parts for item in part[name]] == one[name]
        assert all(part["categories"] == one["categories"] for part in parts)
        assert len(parts[0]["images"]) == 4
    else:
        lines = [line for file in files for line in file.read_text().splitlines()[form == "csv" :]]
        assert lines == (tmp_path / "one").read_text().splitlines()[form == "csv" :]
    assert export(store.source, tmp_path / "many", form, "--shard-images", "20") == 0
    assert [file.name for file in (tmp_path / "many").glob("train-*")] == [f"train-00000-of-00001.{ending}"]


def test_an_image_without_a_size_keeps_its_labels_and_is_counted(tmp_path):
    rows = [row("a", (4, 4), [region(np.ones((2, 2), bool), 1)]) | {"height": None, "width": None}]
    counts = write_coco(AnnotationStore(write_rows(tmp_path / "set", rows), "train"), tmp_path / "a.json")
    assert counts == {"images": 1, "annotations": 0, "images_without_size": 1}


@pytest.mark.parametrize(
    ("form", "change", "what"),
    [
        ("tsv", {"label": None}, "no image of split train has an original label, which the format requires"),
        ("csv", {"labels": [], "scores": []}, "no image of split train has a label"),
        ("coco", {"status": "unreadable"}, "none of its 15 images could be read when they were annotated"),
        ("tsv", None, "it has no rows"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--shard-images", "4"]])
def test_nothing_is_exported_as_an_error_and_not_as_an_empty_file(tmp_path, capsys, form, change, what, more):
    rows = [] if change is None else [item | change for item in random_rows(15, seed=4)]
    assert export(write_rows(tmp_path / "set", rows), tmp_path / "out", form, *more) == 1
    assert what in capsys.readouterr().err
    assert not [path for path in tmp_path.glob("out*/*") if path.name[0] != "."]
    assert not (tmp_path / "out").is_file()
