import json
import re
from pathlib import PurePosixPath

import numpy as np
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.annotations.schema import features
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import class_of_folder, imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, OutputError
from mlimagenet_data.files.outputs import LOCK, MARKER, OutputFolder
from mlimagenet_data.formats import tsv as module
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.importing import Import, import_annotations
from mlimagenet_data.formats.tsv import read_tsv, write_tsv
from mlimagenet_data.names import is_plain_path
from tests.support.annotated import random_rows, row, write_rows

WNIDS = imagenet_classes().wnids
GOOD = "n01440764_1.JPEG\t0\t0,391\t0.9,0.25"


def read(path, text, *, skip=False):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    faults = Faults(skip=skip)
    return [row for table in read_tsv(path, faults) for row in table.to_pylist()], faults


def reference(text):
    """Return the rows of a file and the numbers of its bad lines, read line by line."""
    rows, bad, seen = [], [], set()
    for number, raw in enumerate(text.split(b"\n")[: -1 if text.endswith(b"\n") or not text else None], 1):
        row = reference_row(raw)
        if row is None or photograph(row["image_id"]) in seen:
            bad.append(number)
        else:
            seen.add(photograph(row["image_id"]))
            rows.append(row)
    return rows, bad


def photograph(image_id):
    stem = image_id.rpartition("/")[2]
    return stem if re.fullmatch(r"n[0-9]{8}_[0-9]+", stem) else image_id


def reference_row(raw):
    try:
        name, original, classes, scores = raw.decode().rstrip("\r").split("\t")
        classes = [whole(text) for text in classes.split(",") if classes]
        scores = [real(text) for text in scores.split(",") if scores]
        label = whole(original)
    except ValueError:
        return None
    folder, slash, below = name.partition("/")
    told = class_of_folder(folder) if slash else class_of_folder(name[:9]) if name[9:10] == "_" else None
    below = below if told is not None and slash else name
    if (
        told not in (None, label)
        or not is_plain_path(name)
        or len(classes) != len(scores)
        or len(set(classes)) != len(classes)
    ):
        return None
    file_name = name if slash else f"{WNIDS[label]}/{name}"
    ranked = sorted(zip(classes, scores, strict=True), key=lambda pair: -np.float32(pair[1]))
    ranked = [(index, float(np.float32(score))) for index, score in ranked if np.float32(score) > 0]
    return {
        "image_id": f"{WNIDS[label]}/{PurePosixPath(below).with_suffix('')}",
        "file_name": file_name, "label": label,
        "labels": [index for index, _ in ranked], "scores": [score for _, score in ranked],
    }  # fmt: skip


def whole(text):
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) < 1000):
        raise ValueError
    return int(text)


def real(text):
    if not set(text) <= set("0123456789.eE+-") or not 0 <= float(text) <= 1:
        raise ValueError
    return float(text)


NAMES = st.sampled_from(
    ["n01440764_1.JPEG", "n01440764_2.JPEG", "n01443537_1.JPEG", "n99999999_1.JPEG", "a.png", "0/b.jpg", "1/c.JPEG",
     "n01440764/d.e.JPEG", "other/x.jpg", "../a.jpg", "/etc/passwd", "a\\b", "", ".jpg", "0/../x", "ä.jpg"]
)  # fmt: skip
CLASSES = st.lists(st.sampled_from(["0", "1", "999", "1000", "-1", "x", "", "007", "99999"]), max_size=3)
SCORES = st.lists(
    st.sampled_from(["0.5", "1", "0.0000", "0.1234", ".5", "1e-3", "1e-60", "nan", "inf", "-0.1", "1.1", "", "0.5.5"]),
    max_size=3,
)
LINES = st.one_of(
    st.tuples(NAMES, st.sampled_from(["0", "1", "", "1000", "0.5"]), CLASSES.map(",".join), SCORES.map(",".join)).map(
        "\t".join
    ),
    st.sampled_from(["", "\t\t\t", "a\tb", GOOD, GOOD + "\r", GOOD + "\t"]),
).map(str.encode)
FILES = st.lists(st.one_of(LINES, st.binary(max_size=12).filter(lambda raw: b"\n" not in raw)), max_size=8).map(
    b"\n".join
)


@given(text=FILES, block=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_any_file_reads_as_by_a_line_by_line_reader(tmp_path_factory, text, block):
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", block)
        rows, faults = read(path, text, skip=True)
    expected, bad = reference(text)
    assert rows == expected
    assert sorted(int(text.split(": line ")[1].partition(",")[0]) for text in faults.messages) == bad
    if bad:
        with pytest.raises(AnnotationError, match=r"a\.tsv: line \d+, "):
            read(path, text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("n01440764_1.JPEG\t0\t0", "text: 'n01440764_1.JPEG.*' must have four tab-separated columns"),
        ("n01440764_1.JPEG\t1000\t0\t0.5", "class: '1000' must be a class from 0 to 999"),
        ("n01440764_1.JPEG\t1\t0\t0.5", "filename: 'n01440764_1.JPEG' contradicts the class"),
        ("../n01440764_1.JPEG\t0\t0\t0.5", "filename: .* must be a relative path inside"),
        ("/n01440764_1.JPEG\t0\t0\t0.5", "filename: .* must be a relative path inside"),
        ("n01440764_1.JPEG\t0\t0,1000\t0.5,0.5", "classes: '0,1000' must hold only classes from 0 to 999"),
        ("n01440764_1.JPEG\t0\t0,0\t0.5,0.5", "classes: '0,0' must not repeat a class"),
        ("n01440764_1.JPEG\t0\t0,1\t0.5", "classes: '0,1' and scores must have the same length"),
        ("n01440764_1.JPEG\t0\t0\tnan", "scores: 'nan' must hold only numbers"),
        ("n01440764_1.JPEG\t0\t0\t-0.5", "scores: '-0.5' must hold only scores"),
        ("n01440764_1.JPEG\t0\t0\t1e30", "scores: '1e30' must hold only scores"),
        (GOOD.encode() + b"\xff", "text: .* must be UTF-8"),
        (
            "n01440764_0.JPEG\t0\t\t",
            "filename: 'n01440764/n01440764_0.JPEG' and 'n01440764/n01440764_0.JPEG' would both be image n01440764/n01440764_0",
        ),
        ("x" * (1 << 20), "text: .* must have at most 1048576 bytes"),
    ],
)
def test_errors_name_line_field_and_value(tmp_path, line, words):
    line = line if isinstance(line, bytes) else line.encode()
    text = b"n01440764_0.JPEG\t0\t0\t0.5\n" + line + b"\n" + GOOD.encode()
    with pytest.raises(AnnotationError, match=rf"a\.tsv: line 2, {words}.*--skip-bad"):
        read(tmp_path / "a.tsv", text)
    rows, faults = read(tmp_path / "a.tsv", text, skip=True)
    assert [row["image_id"] for row in rows] == ["n01440764/n01440764_0", "n01440764/n01440764_1"]
    assert faults.count == 1


def test_an_overlong_line_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 16)
    text = GOOD.encode() + b"\n" + b"x" * (5 << 20) + b"\n" + GOOD.replace("_1.", "_2.").encode()
    (tmp_path / "a.tsv").write_bytes(text)
    assert max(map(len, module._blocks(tmp_path / "a.tsv"))) < (1 << 20) + (1 << 17)
    rows, faults = read(tmp_path / "a.tsv", text, skip=True)
    assert (len(rows), faults.count) == (2, 1)


def test_an_export_imports_unchanged(tmp_path):
    rows = random_rows(30, seed=2)
    for r in rows:
        order = np.argsort(-np.array(r["scores"]), kind="stable")
        r["labels"], r["scores"] = [r["labels"][k] for k in order], [r["scores"][k] for k in order]
    rows.append(row("tiny", (4, 4), [], labels=[(5, 1e-7)]))
    store = AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    write_tsv(store, tmp_path / "a.tsv")
    split = import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "again"))
    assert (split["rows"], split["regions"], split["imported"]["left_out"]) == (31, 0, 0)
    again = AnnotationStore(tmp_path / "again", "train")
    write_tsv(again, tmp_path / "b.tsv")
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()
    for number in range(len(store)):
        one, other = store.record(number), again.record(number)
        assert (one.image_id, one.file_name, one.label) == (other.image_id, other.file_name, other.label)
        assert sorted(k for k, _ in one.labels) == sorted(k for k, _ in other.labels)
        assert [s for _, s in one.labels] == pytest.approx([s for _, s in other.labels], abs=1e-4)
        assert other.size is None
    loaded = load_dataset(str(tmp_path / "again"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == features(imagenet_classes())
    assert loaded[0]["height"] is None


def test_without_sizes_images_load_and_boxes_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_text(GOOD)
    import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "set"))
    (tmp_path / "images/n01440764").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(tmp_path / "images/n01440764/n01440764_1.JPEG")
    data = MultiLabelImageNet(tmp_path / "images", annotations=tmp_path / "set")
    assert np.flatnonzero(data[0][1].numpy()).tolist() == [0, 391]
    with pytest.raises(AnnotationError, match=r"image size unknown.*--images"):
        data.labels_for(0, (0, 0, 10, 10))


def test_sizes_and_statuses_come_from_the_images(tmp_path, capsys):
    names = ("n01440764_1.JPEG", "n01440764_2.JPEG", "n01440764_3.JPEG")
    (tmp_path / "a.tsv").write_text("".join(f"{name}\t0\t0\t0.5\n" for name in names))
    folder = tmp_path / "images/train/n01440764"
    folder.mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(folder / names[0])
    (folder / names[1]).write_bytes(b"no image")
    command = ["import", str(tmp_path / "a.tsv"), "--from", "tsv", "--out", str(tmp_path / "set"), "--images"]
    assert main([*command, str(tmp_path / "images"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["statuses"] == {"no_regions": 1, "unreadable": 1, "missing": 1}
    store = AnnotationStore(tmp_path / "set", "train")
    assert [store.record(k).size for k in range(3)] == [(20, 30), None, None]
    assert [store.record(k).status for k in range(3)] == ["no_regions", "unreadable", "missing"]
    assert store.record(2).labels == ((0, 0.5),)
    (tmp_path / "others").mkdir()
    assert main([*command, str(tmp_path / "others"), "--split", "val"]) == 1
    assert "none of the images" in capsys.readouterr().err


def test_proposals_become_regions_of_the_best_label_and_locate_nothing(tmp_path):
    (tmp_path / "a.tsv").write_text(f"{GOOD}\nn01440764_2.JPEG\t0\t\t\n")
    mask = np.zeros((20, 30), bool)
    mask[5:10, 6:12] = True
    code = {"size": [20, 30], "counts": encode_mask(mask)}
    proposals = {
        "categories": [{"id": 1, "name": "fg"}],
        "images": [{"id": k, "file_name": f"n01440764_{k}.JPEG", "height": 20, "width": 30} for k in (1, 2)],
        "annotations": [{"image_id": k, "category_id": 1, "segmentation": code} for k in (1, 2)],
    }
    (tmp_path / "p.json").write_text(json.dumps(proposals))
    import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "set", proposals=tmp_path / "p.json"))
    store = AnnotationStore(tmp_path / "set", "train")
    first, second = store.record(0), store.record(1)
    (region,) = first.regions
    np.testing.assert_array_equal(region.mask, mask)
    assert (region.label, round(region.score, 4), region.topk) == (0, 0.9, ())
    assert (first.size, first.status) == ((20, 30), "ok")
    assert (second.regions, second.status) == ((), "no_regions")


def test_an_import_overwrites_no_split_and_no_build(tmp_path):
    (tmp_path / "a.tsv").write_text(GOOD)
    given = Import(tmp_path / "a.tsv", "tsv", tmp_path / "set")
    import_annotations(given)
    with pytest.raises(AnnotationError, match="already holds split 'train'; choose another --out"):
        import_annotations(given)
    import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "set", split="val"))
    assert set(load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))) == {"train", "val"}
    (tmp_path / "set/build_manifest.json").write_text('{"schema_version": 1, "splits": {"test": {"rows": 1}}}')
    with pytest.raises(AnnotationError, match="holds split 'test', which is not an import"):
        import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "set", split="other"))
    OutputFolder.open(tmp_path / "built", "build")
    with pytest.raises(OutputError, match="holds a build, not an import"):
        import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "built"))


def test_an_import_that_fails_leaves_no_output(tmp_path):
    (tmp_path / "a.tsv").write_text(f"{GOOD}\nbad")
    with pytest.raises(AnnotationError, match="line 2"):
        import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "set"))
    assert {path.name for path in (tmp_path / "set").rglob("*")} == {MARKER, LOCK}


@pytest.mark.parametrize("form", ["tsv", "coco"])
@pytest.mark.parametrize("skip", [False, True])
def test_files_without_images_are_refused(tmp_path, form, skip):
    texts = {
        "tsv": ["", "\ufeff", "filename\tgt\tclasses\tscores\n"],
        "coco": ["", "\ufeff", '{"categories": [], "images": [], "annotations": []}'],
    }[form]
    for text in texts:
        (tmp_path / "a").write_text(text)
        with pytest.raises(AnnotationError, match=r"/a: ") as caught:
            import_annotations(Import(tmp_path / "a", form, tmp_path / "set", skip_bad=skip))
        assert "holds no annotated images" in str(caught.value) or "line 1" in str(caught.value) or form == "coco"
    assert not list((tmp_path / "set").rglob("*.parquet"))


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    rows, _ = read(tmp_path / "a.tsv", f"\ufeff{GOOD}\r\n")
    assert rows == read(tmp_path / "b.tsv", GOOD)[0]
    assert rows[0]["image_id"] == "n01440764/n01440764_1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": []}, r"none of its 0 masks .*; 0 of its 0 images are there"),
        ({"annotations": []}, r"none of its 0 masks .*; 1 of its 1 images are there"),
        ({"images": [{"id": 1, "file_name": "n01440764_7.JPEG", "height": 4, "width": 6}]}, r"1 masks .*; 0 of its 1"),
    ],
)
def test_proposals_that_match_nothing_are_refused(tmp_path, changes, words):
    (tmp_path / "a.tsv").write_text(GOOD)
    code = encode_mask(np.eye(4, 6, dtype=bool))
    proposals = {
        "categories": [],
        "images": [{"id": 1, "file_name": "n01440764_1.JPEG", "height": 4, "width": 6}],
        "annotations": [{"id": 1, "image_id": 1, "segmentation": {"size": [4, 6], "counts": code}}],
    }
    if changes.get("images") == []:
        changes = changes | {"annotations": []}
    (tmp_path / "p.json").write_text(json.dumps(proposals | changes))
    with pytest.raises(AnnotationError, match=rf"p\.json: .*{words}"):
        import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "set", proposals=tmp_path / "p.json"))
    assert not list((tmp_path / "set").rglob("*.parquet"))


def test_skipped_lines_are_reported_without_the_folder(tmp_path, capsys):
    (tmp_path / "a.tsv").write_text(f"bad\n{GOOD}")
    out = str(tmp_path / "set")
    assert main(["import", str(tmp_path / "a.tsv"), "--from", "tsv", "--out", out, "--skip-bad"]) == 0
    said = capsys.readouterr().out
    assert "1 invalid lines or entries skipped" in said
    assert "  a.tsv: line 1, text: 'bad' must have four tab-separated columns" in said
    assert str(tmp_path) not in (tmp_path / "set/build_manifest.json").read_text()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"source": "nowhere"}, AnnotationsNotFoundError, "nowhere: no such file"),
        ({"form": "coco", "proposals": "a.tsv"}, AnnotationError, "--proposals requires --from tsv"),
        ({"form": "imagenet-s"}, AnnotationError, "needs --classes FILE"),
        ({"split": "../x"}, AnnotationError, "letters, digits and underscores"),
    ],
)
def test_invalid_options_are_refused(tmp_path, monkeypatch, options, error, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tsv").write_text(GOOD)
    with pytest.raises(error, match=words):
        import_annotations(Import(**{"source": tmp_path / "a.tsv", "form": "tsv", "out": tmp_path / "set"} | {
            name: tmp_path / value if name in ("source", "proposals") else value for name, value in options.items()
        }))  # fmt: skip
