import functools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mlimagenet_data.annotations.masks import bounds_of_runs, encode_mask, parse_counts, stretch_mask
from mlimagenet_data.annotations.schema import arrow_schema
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.annotations.validate import check_batch
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.formats.coco import load_coco, read_coco, write_coco
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.importing import Import, import_annotations
from mlimagenet_data.formats.regions import mask_columns, shrunk_mask
from mlimagenet_data.names import class_of_path, image_id_of
from tests.support.annotated import random_rows, region, row, write_rows

SCHEMA = arrow_schema()
SQUARE = np.zeros((6, 8), bool)
SQUARE[1:4, 2:7] = True
MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.random.default_rng(drawn[2]).random(drawn[:2]) < 0.4
)


def content(image=None, annotation=None, category=None):
    code = {"size": [6, 8], "counts": encode_mask(SQUARE)}
    return {
        "categories": [{"id": 1, "supercategory": "n01440764", "name": "tench"} | (category or {})],
        "images": [{"id": 7, "file_name": "n01440764/a.JPEG", "height": 6, "width": 8} | (image or {})],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": code} | (annotation or {})],
    }


def read(tmp_path, value, *, skip=False):
    (tmp_path / "a.json").write_text(value if isinstance(value, str) else json.dumps(value))
    faults = Faults(skip=skip)
    return list(read_coco(tmp_path / "a.json", faults)), faults


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_an_export_imports_unchanged(tmp_path_factory, seed):
    folder, rows = tmp_path_factory.mktemp("coco"), random_rows(25, seed=seed)
    rows[1] |= {"label": None, "image_id": "b/c", "file_name": "b/c.png"}
    rows[2]["scores"] = [1e-7] * len(rows[2]["scores"])
    for r in rows:
        order = np.argsort(-np.array(r["scores"]), kind="stable")
        r["labels"], r["scores"] = [r["labels"][k] for k in order], [r["scores"][k] for k in order]
    store = AnnotationStore(write_rows(folder / "set", rows), "train")
    write_coco(store, folder / "a.json")
    again = AnnotationStore(
        write_rows(folder / "again", list(read_coco(folder / "a.json", Faults(skip=False)))), "train"
    )
    assert len(again) == len(store) == 25
    for number in range(25):
        one, other = store.record(number), again.record(number)
        assert (one.image_id, one.file_name) == (other.image_id, other.file_name)
        assert one[1:8] == other[1:8]  # all but masks and status
        assert one.status == other.status
        for mine, theirs in zip(one.regions, other.regions, strict=True):
            shrinks = mine.mask.shape[0] <= one.size[0] and mine.mask.shape[1] <= one.size[1]
            expected = mine.mask if shrinks else stretch_mask(mine.mask, *one.size)
            np.testing.assert_array_equal(theirs.mask, expected)


def test_a_mask_finer_than_the_image_comes_back_stretched(tmp_path):
    store = AnnotationStore(write_rows(tmp_path / "set", [row("a", (3, 20), [region(SQUARE, 3)])]), "train")
    write_coco(store, tmp_path / "a.json")
    (found,) = read_coco(tmp_path / "a.json", Faults(skip=False))
    assert found["regions"][0]["mask"] == {"size": [3, 20], "counts": encode_mask(stretch_mask(SQUARE, 3, 20))}


def test_a_file_without_our_fields_is_read_by_names_and_masks(tmp_path):
    value = content(category={"supercategory": "fish"})
    mask = coco_mask.encode(np.asfortranarray(~SQUARE, dtype=np.uint8))
    value["annotations"].append({
        "image_id": 7, "category_id": 1, "score": 0.25, "segmentation": {"size": [6, 8], "counts": mask["counts"].decode()},
    })  # fmt: skip
    ((found,), faults) = read(tmp_path, value)
    assert faults.count == 0
    assert (found["image_id"], found["label"], found["status"]) == ("n01440764/a", 0, "ok")
    assert (found["labels"], found["scores"]) == ([0], [1.0])
    first, second = found["regions"]
    assert first["bbox"] == [2 / 8, 1 / 6, 5 / 8, 3 / 6]
    assert first["area"] == 15 / 48
    assert (second["score"], second["topk_labels"], second["topk_scores"]) == (0.25, [0], [0.25])


@pytest.mark.parametrize(
    ("name", "image_id", "label"),
    [
        ("n01440764/a.b.JPEG", "n01440764/a.b", 0),
        ("1/a.png", "n01443537/a", 1),
        ("n01443537_5.JPEG", "n01443537/n01443537_5", 1),
        ("000000000009.jpg", "000000000009", None),
        ("photos/a.jpg", "photos/a", None),
    ],
)
def test_file_names_determine_image_ids_and_classes(name, image_id, label):
    assert (image_id_of(name), class_of_path(name)) == (image_id, label)


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("category", {"supercategory": "animal", "name": "dog"}, r"categories\[0\], name: 'dog' is not an ImageNet class"),
        ("category", {"id": None}, r"categories\[0\], id: None"),
        ("image", {"id": [1]}, r"images\[0\], id: \[1\]"),
        ("image", {"file_name": "../a.jpg"}, r"images\[0\], file_name: '../a.jpg' must be a relative path inside"),
        ("image", {"file_name": "/etc/passwd"}, r"images\[0\], file_name"),
        ("image", {"file_name": "\ud800.jpg"}, r"images\[0\], file_name"),
        ("image", {"image_id": ""}, r"images\[0\], image_id: '' must be non-empty text of fewer than 10,000 characters"),
        ("image", {"height": -1}, r"images\[0\], height: -1"),
        ("image", {"width": 8.0}, r"images\[0\], width: 8.0"),
        ("image", {"height": True}, r"images\[0\], height: True"),
        ("image", {"label": 2}, r"images\[0\], label: 2 is not the id of a valid category"),
        ("image", {"labels": [1], "scores": [float("nan")]}, r"images\[0\], scores: nan must be a score"),
        ("image", {"labels": [1], "scores": [float("inf")]}, r"images\[0\], scores: inf must be a score"),
        ("image", {"labels": [1], "scores": [0]}, r"images\[0\], scores: 0 must be a score"),
        ("image", {"labels": [1], "scores": [1e-60]}, r"images\[0\], scores: 1e-60 must be a score"),
        ("image", {"labels": [1]}, r"images\[0\], labels: \[1\] and scores must be lists of the same length"),
        ("image", {"labels": [1, 1], "scores": [0.5, 0.5]}, r"images\[0\], labels: \[1, 1\] must not repeat a class"),
        ("image", {"labels": [{}], "scores": [0.5]}, r"images\[0\], labels: \{\} is not the id of a valid category"),
        ("image", {"status": "fine"}, r"images\[0\], status: 'fine' must be one of ok"),
        ("annotation", {"image_id": 8}, r"annotations\[0\], image_id: 8 is not the id of a valid image"),
        ("annotation", {"category_id": 2}, r"annotations\[0\], category_id: 2"),
        ("annotation", {"score": -1}, r"annotations\[0\], score: -1 must be a score"),
        ("annotation", {"score": "1"}, r"annotations\[0\], score: '1' must be a score"),
        ("annotation", {"segmentation": [[0, 0, 1, 1, 2, 2]]}, "segmentation: .* must be RLE; convert polygons"),
        ("annotation", {"segmentation": {"size": [8, 6], "counts": "0"}}, r"size: \[8, 6\] must equal the image's size, 6 x 8"),
        ("annotation", {"segmentation": {"size": [6, 8], "counts": "1234567"}}, "counts: '1234567' is not a mask of 6 x 8"),
        ("annotation", {"segmentation": {"size": [6, 8], "counts": ""}}, "segmentation.counts"),
        ("annotation", {"segmentation": {"size": [6, 8], "counts": "é"}}, "segmentation.counts"),
        ("annotation", {"segmentation": {"size": [6, 8], "counts": None}}, "must be text or a list of integers"),
        ("annotation", {"segmentation": {"size": [6, 8], "counts": [1 << 60]}}, "must be run lengths that add up to 48"),
        ("annotation", {"segmentation": {"size": [6, 8], "counts": [-1, 49]}}, "must be run lengths"),
        ("annotation", {"segmentation": {"size": [6, 8], "counts": [24.0, 24]}}, "must be run lengths"),
        ("annotation", {"grid": [4, 4]}, "counts: .* is not a 4 x 4 mask stretched to 6 x 8"),
        ("annotation", {"grid": [1 << 40, 1 << 40]}, "mask stretched to 6 x 8"),
        ("annotation", {"grid": [0, 4]}, r"grid: \[0, 4\] must be a pair of positive integers"),
        ("annotation", {"topk_labels": [1], "topk_scores": []}, "topk_labels"),
    ],
)  # fmt: skip
def test_errors_name_entry_field_and_value(tmp_path, part, changes, words):
    value = content(**{part: changes})
    with pytest.raises(AnnotationError, match=rf"a\.json: .*{words}"):
        read(tmp_path, value)
    rows, faults = read(tmp_path, value, skip=True)
    assert faults.count >= 1
    assert [r["regions"] for r in rows] == [[]] * len(rows)  # an annotation is skipped with its image or category


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    st.sampled_from([7, 1, 6, 48, 1 << 31, 1e-46, "0", "`0"]),
    st.lists(st.integers(-1, 50), max_size=3), st.dictionaries(st.sampled_from(["size", "counts"]), st.integers(), max_size=2),
)  # fmt: skip


def places(value, path=()):
    """Return all paths to values in nested lists and objects."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


@given(changes=st.lists(st.tuples(st.integers(0, 10_000), VALUES), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_the_loader_accepts_every_imported_row(tmp_path_factory, changes):
    full = {"image_id": "x", "label": 1, "labels": [1], "scores": [0.5], "status": "ok"}
    value = content(full, {"score": 0.5, "grid": [6, 8], "topk_labels": [1], "topk_scores": [0.5]})
    for number, new in changes:
        found = places(value)
        if found:
            *path, last = found[number % len(found)]
            functools.reduce(lambda inner, key: inner[key], path, value)[last] = new
    path = tmp_path_factory.mktemp("coco")
    try:
        rows, _ = read(path, value, skip=True)
    except AnnotationError as error:
        assert "no list" in str(error)  # noqa: PT017 - one of the three lists was replaced
        return
    for batch in pa.Table.from_pylist(rows, SCHEMA).to_batches():
        check_batch(batch, path, 0)


def test_duplicates_non_objects_and_regions_without_an_image_size_are_refused(tmp_path):
    value = content()
    value["images"] += [{"id": 7, "file_name": "b.jpg"}, {"id": 8, "file_name": "n01440764/a.png"}, 5]
    value["images"].append({"id": 9, "file_name": "c.jpg"})
    value["annotations"].append(value["annotations"][0] | {"image_id": 9})
    value["categories"].append({"id": 1, "name": "goldfish"})
    rows, faults = read(tmp_path, value, skip=True)
    assert [message.partition("a.json: ")[2] for message in faults.messages] == [
        "categories[1], id: 1 repeats the id of an earlier category",
        "images[1], id: 7 repeats the id of an earlier image",
        "images[2], file_name: 'n01440764/a.png' and 'n01440764/a.JPEG' would both be image n01440764/a; rename or remove one",
        "images[3], entry: 5 must be an object",
        "annotations[1], image_id: 9 is an image without height and width, which regions need",
    ]
    assert [r["image_id"] for r in rows] == ["n01440764/a", "c"]


def test_a_huge_mask_is_refused_before_allocation(tmp_path):
    side = 1 << 20
    value = content(
        image={"height": side, "width": side},
        annotation={"segmentation": {"size": [side, side], "counts": [side * side]}},
    )
    with pytest.raises(AnnotationError, match="a mask must have at most 67108864"):
        read(tmp_path, value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ('{"images": [', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"images": [' + "9" * 5000 + "]}", "not JSON"),
        ("[]", "no list 'categories' at the top level"),
        ('{"categories": [], "images": {}, "annotations": []}', "no list 'images'"),
    ],
)
def test_files_that_are_not_coco_are_refused(tmp_path, text, words):
    with pytest.raises(AnnotationError, match=rf"a\.json: {words}"):
        read(tmp_path, text)
    (tmp_path / "b.json").write_bytes(b'{"categories": ["\xff"]}')
    with pytest.raises(AnnotationError, match=r"b\.json: not JSON"):
        load_coco(tmp_path / "b.json")


def test_an_oversized_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mlimagenet_data.formats.coco._MOST_BYTES", 10)
    with pytest.raises(AnnotationError, match="it must have at most 10: split it"):
        read(tmp_path, content())


@given(mask=MASKS, height=st.integers(1, 25), width=st.integers(1, 25))
@settings(max_examples=150, deadline=None)
def test_shrinking_undoes_stretching(mask, height, width):
    height, width = height + mask.shape[0] - 1, width + mask.shape[1] - 1
    stretched = stretch_mask(mask, height, width)
    np.testing.assert_array_equal(shrunk_mask(stretched, mask.shape), mask)
    columns = mask_columns((height, width), encode_mask(stretched), mask.shape)
    assert columns == mask_columns(mask.shape, encode_mask(mask))


@given(mask=MASKS)
@settings(max_examples=200, deadline=None)
def test_boxes_and_areas_match_the_cells(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    expected = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if rows.size else (0, 0, 0, 0)
    runs = parse_counts(encode_mask(mask), mask.size)
    assert bounds_of_runs(runs, mask.shape[0]) == expected
    plain = mask_columns(mask.shape, runs.tolist())  # uncompressed counts
    assert plain == mask_columns(mask.shape, encode_mask(mask))
    assert plain["area"] == mask.mean()


def test_the_command_imports_coco(tmp_path, capsys):
    store = write_rows(tmp_path / "set", [row("a", (6, 8), [region(SQUARE, 3)])])
    write_coco(AnnotationStore(store, "train"), tmp_path / "a.json")
    assert main(["import", str(tmp_path / "a.json"), "--from", "coco", "--out", str(tmp_path / "b")]) == 0
    assert "1 images, 1 labels, 1 regions" in capsys.readouterr().out
    assert imagenet_classes().names[AnnotationStore(tmp_path / "b", "train").record(0).best[0][0]] == "tiger shark"


def test_known_sizes_are_kept_and_missing_images_recorded(tmp_path):
    value = content()
    value["images"] += [{"id": k, "file_name": f"n01440764/{k}.png", "height": 6, "width": 8} for k in (8, 9)]
    value["images"][2] |= {"height": None, "width": None}
    (tmp_path / "a.json").write_text(json.dumps(value))
    for name in ("a.JPEG", "9.png"):
        (tmp_path / "images/n01440764").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(tmp_path / "images/n01440764" / name)
    import_annotations(Import(tmp_path / "a.json", "coco", tmp_path / "set", images=tmp_path / "images"))
    store = AnnotationStore(tmp_path / "set", "train")
    records = [store.record(k) for k in range(3)]
    assert [(r.size, r.status) for r in records] == [((6, 8), "ok"), (None, "missing"), ((20, 30), "no_regions")]
