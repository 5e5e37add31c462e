import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError
from tests.support.annotated import random_rows, region, row, write_rows


def rows_with(**changes):
    import numpy as np

    item = row("a", (10, 12), [region(np.eye(4, dtype=bool), 3)])
    item.update(changes)
    return [row("first", (10, 10), []), item]


def region_with(**changes):
    (_, item) = rows_with()
    item["regions"][0].update(changes)
    return {"regions": item["regions"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": 1000}, "label: 1000"),
        ({"label": -5}, "label: -5"),
        ({"height": -1}, "height, width"),
        ({"width": 0}, "height, width"),
        ({"status": "fine"}, "status: fine"),
        ({"labels": [5, 1000], "scores": [0.5, 0.5]}, "labels: 1000"),
        ({"labels": [5], "scores": [float("nan")]}, "scores: nan"),
        ({"labels": [5], "scores": [float("inf")]}, "scores: inf"),
        ({"labels": [5], "scores": [0.0]}, r"scores: 0\.0"),
        ({"labels": [5], "scores": []}, "labels: 1 classes, but a different number of scores"),
        ({"file_name": "/etc/passwd"}, "file_name: /etc/passwd"),
        ({"file_name": "../a.jpg"}, "file_name"),
        ({"file_name": "a/../../b.jpg"}, "file_name"),
        ({"file_name": "c:/b.jpg"}, "file_name"),
        ({"file_name": "a\\b.jpg"}, "file_name"),
        ({"file_name": ""}, "file_name"),
        ({"image_id": ""}, "image_id"),
        (region_with(label=-1), "regions.label: -1"),
        (region_with(score=2.0), r"regions.score: 2\.0"),
        (region_with(topk_labels=[1, 2]), "regions.topk_labels: 2"),
        (region_with(mask={"size": [4], "counts": "0"}), "regions.mask.size"),
        (region_with(mask={"size": [4, 0], "counts": "0"}), "regions.mask.size"),
        (region_with(mask={"size": [1 << 16, 1 << 16], "counts": "0"}), "regions.mask.size"),
        (region_with(mask={"size": [4, 4], "counts": ""}), "regions.mask.counts"),
        (region_with(mask={"size": [4, 4], "counts": "1234567"}), "regions.mask.counts: 1234567"),
        (region_with(mask={"size": [4, 4], "counts": None}), "regions.mask.counts"),
    ],
)
def test_rows_that_break_the_schema_are_refused_with_file_row_and_field(tmp_path, changes, words):
    folder = write_rows(tmp_path, rows_with(**changes))
    with pytest.raises(AnnotationError, match=rf"train-00000-of-00001\.parquet: row 1, {words}"):
        AnnotationStore(folder, "train")


def test_rows_in_a_later_file_are_counted_from_its_start(tmp_path):
    rows = [*random_rows(4), *rows_with(label=1000)]
    with pytest.raises(AnnotationError, match=r"train-00001-of-00002\.parquet: row 2, label"):
        AnnotationStore(write_rows(tmp_path, rows, shards=2), "train")


def test_a_missing_folder_or_split_is_named(tmp_path):
    with pytest.raises(AnnotationsNotFoundError, match="nowhere: no such folder"):
        AnnotationStore(tmp_path / "nowhere", "train")
    write_rows(tmp_path, random_rows(3), split="val")
    with pytest.raises(AnnotationsNotFoundError, match="split 'train'; available splits: val"):
        AnnotationStore(tmp_path, "train")


def test_a_missing_shard_is_detected(tmp_path):
    write_rows(tmp_path, random_rows(6), shards=3)
    (tmp_path / "data" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(AnnotationError, match="2 shards"):
        AnnotationStore(tmp_path, "train")


def test_files_of_another_format_are_refused(tmp_path):
    write_rows(tmp_path, random_rows(3))
    file = tmp_path / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).drop_columns("regions"), file)
    with pytest.raises(AnnotationError, match=r"columns \['regions'\] are missing"):
        AnnotationStore(tmp_path, "train")
    file.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(AnnotationError, match="not a readable shard"):
        AnnotationStore(tmp_path, "train")
    columns = ["image_id", "file_name", "label", "height", "width", "labels", "scores", "regions", "status"]
    pq.write_table(pa.table({name: ["x"] for name in columns}), file)
    with pytest.raises(AnnotationError, match="does not have the type"):
        AnnotationStore(tmp_path, "train")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"first", b"fir\xfft", "rows 0 to 1: text is not valid UTF-8"),
        (b"counts", b"co\xdents", "not a readable shard"),
    ],
)
def test_invalid_utf8_is_refused(tmp_path, old, new, words):  # found by benchmarks.fuzz
    file = write_rows(tmp_path, rows_with()) / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file), file, compression="none", write_statistics=False)
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(AnnotationError, match=rf"train-00000-of-00001\.parquet: {words}"):
        AnnotationStore(tmp_path, "train")


def test_an_empty_split_has_no_rows(tmp_path):
    assert len(AnnotationStore(write_rows(tmp_path, []), "train")) == 0


def test_a_nonexistent_row_raises_index_error(tmp_path):
    store = AnnotationStore(write_rows(tmp_path, random_rows(3)), "train")
    assert store.record(-1).image_id == store.record(2).image_id
    with pytest.raises(IndexError):
        store.record(3)
