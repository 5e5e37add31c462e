import numpy as np
import pytest

from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import EvaluationError, MLImageNetError
from mlimagenet_data.evaluate.sets.boxes import open_boxes
from mlimagenet_data.evaluate.sets.masks import open_masks
from mlimagenet_data.evaluate.sets.opening import open_truth
from tests.evaluate.test_sets import real_lists, touch, val, write
from tests.support.annotated import row, write_rows

WNIDS = imagenet_classes().wnids
MASK = np.array([[True, False], [True, False]])


def boxes(**changes):
    return {"original": 3, "real": [3, 5, 3], "boxes": [[0.1, 0, 0.5, 1]], **changes}


def test_boxes_with_label_sets(tmp_path):
    entries = {"a/1": boxes(), "a/2": boxes(real=[]), "a/3": boxes(real=[7], boxes=[])}
    found = open_boxes(write(tmp_path / "truth.json", entries))
    assert found.has_labels
    assert found.ids == ("a/1", "a/3")
    assert found.skipped == {"nobody judged its labels": 1}
    assert [(e.valid, e.original) for e in found.examples] == [((3, 5), 3), ((7,), 3)]
    assert [b.tolist() for b in found.boxes] == [[[0.1, 0, 0.5, 1]], []]


def test_boxes_without_label_sets(tmp_path):
    entries = {"a/1": {"original": 3, "boxes": [[0, 0, 1, 1]]}, "a/2": {"original": 4, "boxes": []}}
    found = open_boxes(write(tmp_path / "truth.json", entries))
    assert (found.has_labels, len(found), found.skipped) == (False, 2, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must be a JSON object with an entry for each image"),
        ({}, "must be a JSON object with an entry for each image"),
        ("{", "not JSON"),
        ({"a": 3}, "a: 3: must be an object"),
        ({"a": boxes(original=True)}, "a, original: True: must be a class index, 0 to 999"),
        ({"a": boxes(original=1000)}, "a, original: 1000"),
        ({"a": boxes(real=[3, "x"])}, "a, real: .*: must be a list of class indices"),
        ({"a": boxes(), "b": {"original": 3, "boxes": []}}, "b, real: None: .* in every entry or in none"),
        ({"a": boxes(boxes=None)}, "a, boxes: None: must be a list"),
        ({"a": boxes(boxes=[[0, 0, 0, 1]])}, r"a, boxes: \[0, 0, 0, 1\]: must be \[x0, y0, x1, y1\]"),
        ({"a": boxes(boxes=[[0, 0, 227, 227]])}, "shares of the image's width and height"),
        ('{"a": {"original": 3, "boxes": [[0, 0, NaN, 1]]}}', "a, boxes"),
        ({"a": boxes(real=[])}, "no image was judged"),
        ({f"{WNIDS[0]}/{val(1)[:-5]}": boxes(), val(1)[:-5]: boxes()}, "the same photograph as"),
    ],
)
def test_other_forms_of_boxes_are_refused(tmp_path, content, message):
    with pytest.raises(EvaluationError, match=message):
        open_boxes(write(tmp_path / "truth.json", content))


def xml(folder, name, *objects, size=(200, 100), head=""):
    """Write an XML file; objects are (wnid, xmin, ymin, xmax, ymax)."""
    items = "".join(
        f"<object><name>{wnid}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for wnid, a, b, c, d in objects
    )
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.write_text(f"{head}<annotation><filename>x</filename>{sides}{items}</annotation>")
    return folder


def test_imagenets_xml(tmp_path):
    pytest.importorskip("defusedxml")
    xml(
        tmp_path,
        f"val/{val(1)[:-5]}.xml",
        (WNIDS[7], 20, 0, 100, 101),
        (WNIDS[8], 0, 0, 9, 9),
        (WNIDS[7], 0, 50, 200, 100),
    )
    xml(tmp_path, f"train/{WNIDS[9]}/{WNIDS[9]}_3.xml", (WNIDS[9], 0, 0, 200, 100))
    found = open_boxes(tmp_path)
    assert found.ids == (f"{WNIDS[9]}/{WNIDS[9]}_3", f"{WNIDS[7]}/{val(1)[:-5]}")
    assert [example.original for example in found.examples] == [9, 7]
    assert [b.tolist() for b in found.boxes] == [[[0, 0, 1, 1]], [[0.1, 0, 0.5, 1], [0, 0.5, 1, 1]]]
    assert not found.has_labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": [("n00000000", 0, 0, 9, 9)]}, r"a\.xml: object/name: n00000000: no wnid of ImageNet-1k"),
        ({"objects": []}, "object/name: no object"),
        ({"objects": [(WNIDS[0], 0, 0, 0, 9)]}, "bndbox: .*must have a positive area"),
        ({"objects": [(WNIDS[0], 0, "x", 9, 9)]}, "bndbox/ymin: 'x': must be a number"),
        ({"objects": [(WNIDS[0], 0, "nan", 9, 9)]}, "bndbox/ymin: 'nan': must be a number"),
        ({"objects": [(WNIDS[0], 0, 0, 9, 9)], "size": (0, 9)}, "size: 0 x 9; both must be positive"),
        ({"objects": [], "head": "<x>"}, "not readable XML: ParseError"),
        ({"objects": [], "head": '<!DOCTYPE a [<!ENTITY b "c">]>'}, "not readable XML: DTDForbidden"),
        ({"objects": [], "head": '<?xml version="1.0" encoding="nonsense"?>'}, "not readable XML"),
    ],
)
def test_other_xml_is_refused(tmp_path, options, message):
    pytest.importorskip("defusedxml")
    xml(tmp_path, "a.xml", *options.pop("objects"), **options)
    with pytest.raises(EvaluationError, match=message):
        open_boxes(tmp_path)


def test_a_folder_without_xml_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="no XML file"):
        open_boxes(tmp_path)


def thing(**changes):
    return {
        "coco_class": "cat",
        "iscrowd": 0,
        "area": 0.5,
        "mask": {"size": [2, 2], "counts": encode_mask(MASK)},
        **changes,
    }


def picture(*things, **changes):
    return {"image_id": "1", "height": 4, "width": 2, "regions": list(things), **changes}


def mask_folder(folder, *pictures, classes=None):
    write(folder / "ground_truth.json", {"images": list(pictures)})
    write(folder / "coco_to_imagenet.json", {"classes": {"dog": [20], "cat": [10, 11]} if classes is None else classes})
    return folder


def test_masks(tmp_path):
    pictures = picture(thing(), thing(coco_class="person", iscrowd=1), image_id="2"), picture(thing(coco_class="dog"))
    found = open_masks(mask_folder(tmp_path, *pictures))
    assert found.ids == ("1", "2")
    assert found.masks.names == ("cat", "dog")
    assert np.argwhere(found.masks.of_class).tolist() == [[10, 0], [11, 0], [20, 1]]
    dog, cat = found.masks.images
    assert [(o.column, o.is_crowd) for o in cat.objects] == [(0, False), (-1, True)]
    assert (dog.shown(), cat.shown()) == ([1], [0])
    assert dog.mask(dog.objects[0]).tolist() == [[True, False]] * 4  # stretched


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "images, entry 0: 3: must have an image_id"),
        (picture(image_id=""), "must have an image_id"),
        (picture(height="4"), "1, height, width: 4, 2: must be positive whole numbers"),
        (picture(height=1 << 20, width=1 << 20), "with a product of at most"),
        (picture(regions=None), "1, regions: None: must be a list"),
        (picture("x"), "1, regions, entry 0: x: must have a coco_class"),
        (picture(thing(area=2)), "1, regions, entry 0, area: 2: must be a share"),
        (picture(thing(mask=[])), "entry 0, mask: .*must be COCO RLE"),
        (picture(thing(mask={"size": 3, "counts": "1"})), r"mask.size: 3: must be \[height, width\]"),
        (picture(thing(mask={"size": [1 << 30, 1 << 30], "counts": "1"})), "mask.size: .*with a product"),
        (picture(thing(mask={"size": [2, 2], "counts": "~"})), "mask.counts: .*are invalid"),
    ],
)
def test_other_forms_of_masks_are_refused(tmp_path, entry, message):
    with pytest.raises(EvaluationError, match=message):
        open_masks(mask_folder(tmp_path, entry))


@pytest.mark.parametrize("classes", [{}, [], {"cat": 3}, {"cat": [1000]}, {"cat": [True]}])
def test_other_class_tables_are_refused(tmp_path, classes):
    with pytest.raises(EvaluationError, match=r"coco_to_imagenet\.json: classes"):
        open_masks(mask_folder(tmp_path, picture(), classes=classes))


def test_real_labels_are_a_truth_even_of_a_partial_copy(tmp_path):
    root = touch(tmp_path / "val", val(3), f"{WNIDS[7]}/{val(1)}", f"{WNIDS[7]}/{val(2)}")
    labels = write(tmp_path / "real.json", real_lists(n1=[7, 9], n2=[], n3=[5]))
    found = open_truth("real", str(root), labels=labels)
    assert found.ids == (f"{WNIDS[7]}/{val(1)[:-5]}", val(3)[:-5])
    assert found.skipped == {"no class fits": 1}


def test_another_dataset_is_a_truth_without_its_images(tmp_path):
    rows = [row("a", (4, 4), [], labels=[(3, 0.9), (4, 0.4)]), row("b", (4, 4), [], labels=[(3, 0.2)])]
    found = open_truth("annotations", str(write_rows(tmp_path, rows)), min_score=0.5)
    assert found.ids == (f"{WNIDS[0]}/a",)
    assert found.examples[0].valid == (3,)


@pytest.mark.parametrize(("kind", "message"), [("cats", "unknown kind of truth"), ("multilabel", "needs a label file")])
def test_truths_that_cannot_be_opened(kind, message):
    with pytest.raises(MLImageNetError, match=message):
        open_truth(kind, "nowhere")


def test_numbers_too_long_for_python_are_refused(tmp_path):
    with pytest.raises(EvaluationError, match="not JSON"):
        open_boxes(write(tmp_path / "truth.json", '{"a": ' + "1" * 5000 + "}"))
