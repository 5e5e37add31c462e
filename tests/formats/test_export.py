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
from tests.support.annotated import random_rows, row, write_rows


@pytest.fixture
def store(tmp_path):
    rows = random_rows(15, seed=4)
    rows[2]["status"] = "unreadable"
    rows[3]["label"] = None
    return AnnotationStore(write_rows(tmp_path / "set", rows), "train")


def test_pycocotools_reads_the_export(store, tmp_path, capsys):
    counts = write_coco(store, tmp_path / "a.json")
    coco = COCO(str(tmp_path / "a.json"))
    assert counts == {"images": 14, "annotations": len(coco.anns)}
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(imagenet_classes().names)
    for number in store.usable_rows().tolist():
        record = store.record(number)
        (image,) = coco.loadImgs(number)
        assert (image["file_name"], image["height"], image["width"]) == (record.file_name, *record.size)
        assert image["labels"] == [index + 1 for index, _ in record.labels]
        assert image["scores"] == pytest.approx([score for _, score in record.labels], abs=1e-6)
        found = coco.loadAnns(coco.getAnnIds(number))
        assert len(found) == len(record.regions)
        for annotation, region in zip(found, record.regions, strict=True):
            mask = stretch_mask(region.mask, *record.size)
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)
            assert annotation["area"] == mask.sum()
            assert annotation["category_id"] == region.label + 1
            x, y, width, height = map(int, annotation["bbox"])
            assert mask[y : y + height, x : x + width].sum() == mask.sum()


def test_an_empty_dataset_can_be_exported(tmp_path, capsys):
    store = AnnotationStore(write_rows(tmp_path / "set", []), "train")
    assert write_coco(store, tmp_path / "a.json") == {"images": 0, "annotations": 0}
    assert COCO(str(tmp_path / "a.json")).imgs == {}


def test_the_papers_format_has_one_line_per_image(store, tmp_path):
    assert write_tsv(store, tmp_path / "a.tsv") == {"lines": 13}  # one has no original label, one could not be read
    lines = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    records = [r for r in map(store.record, store.usable_rows().tolist()) if r.label is not None]
    for (name, original, classes, scores), record in zip(lines, records, strict=True):
        assert record.file_name.endswith(f"/{name}")
        assert int(original) == record.label
        assert [int(k) for k in classes.split(",") if k] == [index for index, _ in record.labels]
        assert [float(s) for s in scores.split(",") if s] == pytest.approx([s for _, s in record.labels], abs=5e-5)


def test_csv_has_one_line_per_label(tmp_path):
    store = AnnotationStore(
        write_rows(tmp_path / "set", [row("a", (4, 4), [], label=1, labels=[(1, 0.5), (7, 0.25)])]), "train"
    )
    assert write_csv(store, tmp_path / "a.csv") == {"lines": 2}
    with open(tmp_path / "a.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["class"], first["is_original"], first["score"]) == ("1", "1", "0.5")
    assert (second["class"], second["is_original"], second["wnid"]) == ("7", "0", imagenet_classes().wnids[7])
    assert first["image_id"] == store.image_id(0)


@pytest.mark.parametrize("form", ["coco", "tsv", "csv"])
def test_the_command_exports(store, tmp_path, capsys, form):
    assert main(["export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", form, "--json"]) == 0
    assert sum(json.loads(capsys.readouterr().out).values()) > 0
    assert (tmp_path / "out").stat().st_size > 0
