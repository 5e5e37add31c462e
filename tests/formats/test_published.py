"""The paper's annotations as published on the Hub."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlimagenet_data import LabelPolicy
from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.formats.importing import Import, import_annotations
from mlimagenet_data.labelling.targets import label_view, multi_hot

ROWS = [
    ("n01440764_1.JPEG", 0, [0, 391, 5], [0.9, 0.6, 0.0008]),
    ("n01443537_2.JPEG", 1, [7, 1], [0.7, 0.3]),
    ("n01484850_3.JPEG", 2, [], []),
]


def write(path, rows=ROWS, **types):
    columns = dict(zip(("filename", "gt_index", "label_indices", "label_probs"), zip(*rows, strict=True), strict=True))
    table = pa.table({name: pa.array(list(values), types.get(name)) for name, values in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def labels_of(folder, split="train"):
    store = AnnotationStore(folder, split)
    return [(store.record(k).image_id, store.record(k).label, dict(store.record(k).labels)) for k in range(len(store))]


def test_it_is_read_as_the_tsv_is(tmp_path):
    lines = [f"{n}\t{gt}\t{','.join(map(str, c))}\t{','.join(map(str, s))}\n" for n, gt, c, s in ROWS]
    (tmp_path / "a.tsv").write_text("".join(lines))
    import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "tsv"))
    for types in ({}, {"label_probs": pa.list_(pa.float32()), "gt_index": pa.int16()}):
        source = write(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", **types)
        for given in (source, tmp_path / "set"):
            out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
            import_annotations(Import(given, "published", out))
            for one, other in zip(labels_of(out), labels_of(tmp_path / "tsv"), strict=True):
                assert one[:2] == other[:2]
                assert one[2] == pytest.approx(other[2])


def test_low_labels_are_left_out_by_default_and_counted(tmp_path, capsys):
    write(tmp_path / "a.parquet")
    assert main(["import", str(tmp_path / "a.parquet"), "--from", "published", "--out", str(tmp_path / "out")]) == 0
    assert "1 labels below 0.5 left out" in capsys.readouterr().out
    found = [set(labels) for _, _, labels in labels_of(tmp_path / "out")]
    assert found == [{0, 391}, {1, 7}, set()]  # the original label stays
    every = ["--min-score", "0", "--out", str(tmp_path / "all")]
    assert main(["import", str(tmp_path / "a.parquet"), "--from", "published", *every]) == 0
    assert set(labels_of(tmp_path / "all")[0][2]) == {0, 391, 5}
    assert main(["import", "x.json", "--from", "coco", "--min-score", "0.3", "--out", str(tmp_path / "no")]) == 1
    assert "--min-score requires --from tsv or published" in capsys.readouterr().err


def test_the_policy_decides_which_soft_labels_count():
    record = Record("a", "a.jpg", 1, (8, 8), ((7, 0.7), (1, 0.3), (5, 0.0008)), (), (), (), (), (), "no_regions")

    def shown(**options):
        return set(np.flatnonzero(multi_hot(label_view(record, LabelPolicy(**options)))).tolist())

    assert shown() == {1, 5, 7}
    assert shown(label_score=0.5) == {1, 7}  # the original label is exempt
    assert shown(label_score=0.5, original="as_others") == {7}
    with pytest.raises(ValueError, match=r"LabelPolicy\.label_score must be in \[0, 1\], got 2"):
        LabelPolicy(label_score=2)


def test_it_is_downloaded_from_the_hub(tmp_path, monkeypatch):
    folder = write(tmp_path / "snapshot" / "data" / "train-00000-of-00001.parquet").parents[1]
    asked = []

    def snapshot_download(repo, **options):
        asked.append((repo, options["revision"], options["repo_type"]))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    source = "hf:k3999/multilabel-imagenet-1k@v1"
    assert main(["import", source, "--from", "published", "--out", str(tmp_path / "out")]) == 0
    assert asked == [("k3999/multilabel-imagenet-1k", "v1", "dataset")]
    assert len(labels_of(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("n01440764_9.JPEG", 1000, [0], [0.5]), "line 1, label: 1000 must be a class from 0 to 999"),
        (("n01440764_9.JPEG", None, [0], [0.5]), "line 1, label: None must be a class"),
        (("../a.JPEG", 0, [0], [0.5]), "line 1, filename: '../a.JPEG' must be a relative path"),
        (("n01440764_9.JPEG", 3, [0], [0.5]), "line 1, filename: .* contradicts the class"),
        (("n01440764_9.JPEG", 0, [0, 1], [0.5]), "line 1, classes: .* same length"),
        (("n01440764_9.JPEG", 0, [0, None], [0.5, 0.2]), "line 1, classes: .* must hold no nulls"),
        (("n01440764_9.JPEG", 0, [0], [float("nan")]), "line 1, classes: .* must hold no nulls"),
        (("n01440764_9.JPEG", 0, [-1], [0.5]), "line 1, classes: .* only classes from 0 to 999"),
        (("n01440764_9.JPEG", 0, [0, 0], [0.5, 0.4]), "line 1, classes: .* must not repeat a class"),
        (("n01440764_9.JPEG", 0, [0], [1.5]), r"line 1, scores: .* only scores in \[0, 1\]"),
        (("n01440764_1.JPEG", 0, [0], [0.5]), "line 1, filename: .* would both be image n01440764/n01440764_1"),
    ],
)
def test_invalid_rows_are_named_or_skipped(tmp_path, row, message):
    write(tmp_path / "a.parquet", [ROWS[0], row, ROWS[1]])
    given = Import(tmp_path / "a.parquet", "published", tmp_path / "out")
    with pytest.raises(AnnotationError, match=message):
        import_annotations(given)
    split = import_annotations(Import(given.source, "published", tmp_path / "skipped", skip_bad=True))
    assert (split["rows"], split["imported"]["left_out"]) == (2, 1)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 rubbish PAR1")
    with pytest.raises(AnnotationError, match="not a readable Parquet file"):
        import_annotations(Import(tmp_path / "a.parquet", "published", tmp_path / "out"))
    pq.write_table(pa.table({"filename": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(AnnotationError, match="column 'gt_index' is missing"):
        import_annotations(Import(tmp_path / "a.parquet", "published", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no \.parquet files"):
        import_annotations(Import(tmp_path / "empty", "published", tmp_path / "out"))
