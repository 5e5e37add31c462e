import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.predictions import probabilities
from mlimagenet_data.evaluate.report import evaluate
from mlimagenet_data.evaluate.sets.annotations import open_annotations
from mlimagenet_data.evaluate.sets.folder import open_folder
from mlimagenet_data.evaluate.sets.imagenet_s import open_imagenet_s
from mlimagenet_data.evaluate.sets.imagenet_v2 import open_v2
from mlimagenet_data.evaluate.sets.multilabel import open_imagenet_m, open_multilabel
from mlimagenet_data.evaluate.sets.multilabel_json import read_multilabels
from mlimagenet_data.evaluate.sets.real import open_real
from tests.support.annotated import row, write_rows

WNIDS = imagenet_classes().wnids


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def val(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def real_lists(**changes):
    lists = [[0]] * 50_000
    for number, classes in changes.items():
        lists[int(number[1:]) - 1] = classes
    return lists


def test_real_labels_match_files_by_number(tmp_path):
    root = touch(
        tmp_path / "val", val(3), f"{WNIDS[7]}/{val(1)}", f"5/{val(50000)}", "ILSVRC2012_val_00000002_n01443537.JPEG"
    )
    touch(root, "list.txt", "other/a.JPEG")
    labels = write(tmp_path / "real.json", real_lists(n1=[7, 9, 7], n2=[], n3=[999], n50000=[4]))
    found = open_real(root, labels, partial=True)
    assert [(e.file, e.valid, e.original, bool(e.skipped)) for e in found.examples] == [
        (f"{WNIDS[7]}/{val(1)}", (7, 9), 7, False),
        ("ILSVRC2012_val_00000002_n01443537.JPEG", (), 1, True),
        (val(3), (999,), None, False),
        (f"5/{val(50000)}", (4,), 5, False),
    ]
    assert found.evaluated.tolist() == [True, False, True, True]
    assert found.original.tolist() == [7, 1, -1, 5]
    targets = found.targets(np.array([0, 2]))
    assert [np.flatnonzero(t).tolist() for t in targets] == [[7, 9], [999]]
    with pytest.raises(EvaluationError, match=r"49996 validation images are missing; the first is .*00000004"):
        open_real(root, labels)


def test_real_labels_come_with_timm(tmp_path):
    pytest.importorskip("timm")
    found = open_real(touch(tmp_path, val(1), val(2)), partial=True)
    assert [e.valid for e in found.examples] == [(), (970, 795)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[[0], ", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"a": 1}, r"dict; must be a list of 50000 lists\. Get it from https://github"),
        ([[0]] * 49_999, "49999 entries"),
        (real_lists(n17=[1000]), r"entry 16: \[1000\] is not a list of classes 0 to 999"),
        (real_lists(n18=[-1]), "entry 17"),
        (real_lists(n19=[True]), "entry 18"),
        (real_lists(n20=[1.0]), "entry 19"),
        (real_lists(n21="9"), "entry 20: 9"),
        (real_lists(n22=None), "entry 21: None"),
    ],
)
def test_invalid_real_files_are_rejected(tmp_path, value, message):
    labels = write(tmp_path / "real.json", value)
    with pytest.raises(EvaluationError, match=f"real.json: {message}"):
        open_real(touch(tmp_path / "val", val(1)), labels, partial=True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.JPEG"], "no image is named like ILSVRC2012_val_00000001.JPEG"),
        ([val(0)], "numbers must be between 1 and 50000"),
        ([val(9), f"3/{val(9)}"], "duplicate of validation image 9, "),
    ],
)
def test_images_that_are_not_the_validation_set_are_rejected(tmp_path, files, message):
    labels = write(tmp_path / "real.json", real_lists())
    with pytest.raises(EvaluationError, match=message):
        open_real(touch(tmp_path / "val", *files), labels, partial=True)


def annotations(**changes):
    """Return annotations in the published file's form, as in TensorFlow Datasets' example."""
    return {
        "initial_annots": {
            val(1): {"correct": [WNIDS[65]], "wrong": [WNIDS[50]]},
            val(4): {"correct": [WNIDS[3], WNIDS[4]], "unclear": [WNIDS[9]]},
            val(5): {"wrong": [WNIDS[1]]},
            val(64): {"correct": [WNIDS[8]]},
            "0a1b2c": {"correct": [WNIDS[2], WNIDS[5]], "unclear": [WNIDS[6]]},
        },
        "problematic_images": {val(64): {"reason": "marked"}},
        "imagenet_m": [val(4), val(64)],
        **changes,
    }


def test_multi_label_annotations_skip_problematic_images_and_have_unclear_classes(tmp_path):
    root = touch(tmp_path / "val", *(f"{WNIDS[3]}/{val(k)}" for k in (1, 2, 4, 5, 64)))
    labels = write(tmp_path / "human.json", annotations())
    found = open_multilabel(root, labels)
    assert [(e.file[-7:-5], e.valid, e.unclear, e.skipped) for e in found.examples] == [
        ("01", (65,), (), ""),
        ("04", (3, 4), (9,), ""),
        ("05", (), (), "no class is marked correct"),
        ("64", (8,), (), "problematic"),
    ]
    assert found.targets(np.array([1]))[0, [3, 4, 9, 0]].tolist() == [1, 1, -1, 0]
    major = open_imagenet_m(root, labels)
    assert [(e.valid, e.unclear, e.skipped) for e in major.examples] == [((3, 4), (9,), ""), ((8,), (), "")]
    (root / WNIDS[3] / val(5)).unlink()
    with pytest.raises(EvaluationError, match=r"1 validation images are missing; the first is ILSVRC2012_val_00000005"):
        open_multilabel(root, labels)
    assert len(open_multilabel(root, labels, partial=True)) == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "initial_annots: must be a dict. Get the file from https"),
        (annotations(problematic_images=[]), "problematic_images: must be a dict"),
        (annotations(imagenet_m=None), "imagenet_m: must be a list"),
        (annotations(imagenet_m=[val(3)]), f"imagenet_m: {val(3)} is not in initial_annots"),
        (annotations(imagenet_m=[]), "imagenet_m is empty"),
        (annotations(initial_annots={val(1): []}, imagenet_m=[]), f"{val(1)}, correct: None is not a list of wnids"),
        (
            annotations(initial_annots={val(1): {"correct": ["n0"]}}, imagenet_m=[]),
            f"{val(1)}, correct: n0 is not a wnid",
        ),
        (
            annotations(initial_annots={val(1): {"unclear": [[]]}}, imagenet_m=[]),
            f"{val(1)}, unclear: .. is not a wnid",
        ),
        (annotations(initial_annots={val(1): {"unclear": "n"}}, imagenet_m=[]), f"{val(1)}, unclear: n is not a list"),
    ],
)
def test_invalid_annotations_are_rejected(tmp_path, value, message):
    labels = write(tmp_path / "human.json", value)
    with pytest.raises(EvaluationError, match=f"human.json: {message}"):
        open_imagenet_m(touch(tmp_path / "val", val(1)), labels, partial=True)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "n01440764", "../x", val(1), "correct"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["correct", "unclear", val(1), ".."]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.dictionaries(st.sampled_from(["initial_annots", "problematic_images", "imagenet_m"]), VALUES))
def test_any_json_is_read_or_rejected_by_name(tmp_path_factory, value, parts):
    path = tmp_path_factory.getbasetemp() / "any.json"
    for content in (value, parts, annotations(imagenet_m=[], initial_annots={val(1): value})):
        write(path, content)
        for reader in (read_multilabels, lambda path: open_real(path.parent, path, partial=True)):
            try:
                reader(path)
            except EvaluationError as error:
                assert str(path.parent) in str(error)  # noqa: PT017 - many of them are valid


def test_the_error_for_a_missing_file_names_its_source(tmp_path):
    with pytest.raises(EvaluationError, match=r"none.json: no such file; get it from https://storage"):
        open_multilabel(tmp_path, tmp_path / "none.json")


def test_v2_has_ten_images_of_each_class_and_optional_annotations(tmp_path):
    names = [f"{k}/{j:x}{k:05d}.jpeg" for k in range(1000) for j in range(10)]
    names[20] = "2/0a1b2c.jpeg"
    root = touch(tmp_path / "v2", *names)
    found = open_v2(root)
    assert len(found) == 10_000
    assert {e.file: e.valid for e in found.examples} == {name: (int(name.split("/")[0]),) for name in names}
    labelled = open_v2(root, write(tmp_path / "human.json", annotations()))
    (known,) = [e for e in labelled.examples if not e.skipped]
    assert (known.file, known.valid, known.unclear, known.original) == (names[20], (2, 5), (6,), 2)
    (root / names[70]).unlink()
    with pytest.raises(EvaluationError, match=r"v2/7: 9 images; ImageNet-V2 has 10 per class"):
        open_v2(root)
    assert len(open_v2(root, partial=True)) == 9_999
    with pytest.raises(EvaluationError, match=r"no annotations of the images in .*v2"):
        open_v2(root, write(tmp_path / "other.json", annotations(initial_annots={}, imagenet_m=[])), partial=True)


def test_v2_accepts_multilabelfys_refined_labels(tmp_path):
    root = touch(tmp_path / "v2", "2/0a1b2c.jpeg", "3/1b.jpeg", "3/2c.jpeg")
    labels = write(tmp_path / "refined.json", {"0a1b2c.jpeg": [2, "5", 2], "1b": [], "elsewhere.jpeg": [9]})
    found = open_v2(root, labels, partial=True)
    assert [(e.file, e.valid, e.original, e.skipped) for e in found.examples] == [
        ("2/0a1b2c.jpeg", (2, 5), 2, ""),
        ("3/1b.jpeg", (), 3, "no class is marked correct"),
        ("3/2c.jpeg", (), 3, "not annotated"),
    ]


@pytest.mark.parametrize("value", [[1000], [-1], ["05"], ["9" * 5000], [None], [[1]], {"correct": [1]}, 3])
def test_invalid_refined_labels_are_rejected(tmp_path, value):
    labels = write(tmp_path / "refined.json", {"a.jpeg": value})
    with pytest.raises(EvaluationError, match=r"refined.json: a.jpeg: .* is not a list of classes 0 to 999"):
        open_v2(touch(tmp_path / "v2", "2/a.jpeg"), labels, partial=True)
    with pytest.raises(EvaluationError, match=r"initial_annots: must be a dict"):
        open_v2(tmp_path / "v2", write(labels, [value]), partial=True)


def test_class_folders_are_named_by_wnid_or_index(tmp_path):
    root = touch(tmp_path, f"{WNIDS[9]}/b.JPEG", f"{WNIDS[9]}/a.png", "12/c.jpg", "12/c.txt", ".hidden/d.jpg")
    found = open_folder(root)
    assert [(e.file, e.valid) for e in found.examples] == [
        ("12/c.jpg", (12,)), (f"{WNIDS[9]}/a.png", (9,)), (f"{WNIDS[9]}/b.JPEG", (9,)),
    ]  # fmt: skip
    with pytest.raises(EvaluationError, match=r"1000: the folder must be named by a wnid"):
        open_folder(touch(tmp_path, "1000/e.jpg"))
    with pytest.raises(EvaluationError, match="no images in class folders"):
        open_folder(touch(tmp_path / "empty", "a.jpg"))


@pytest.fixture
def imagenet_s(tmp_path):
    """Folders of ImageNet-S-50, whose ids follow the sorted wnids of its classes."""
    classes = list(range(300, 350))
    for k in classes:
        (tmp_path / "validation" / WNIDS[k]).mkdir(parents=True)
        (tmp_path / "validation-segmentation" / WNIDS[k]).mkdir(parents=True)
    return tmp_path


def segment(root, name, ids, size=(6, 4)):
    Image.new("RGB", size).save(root / "validation" / f"{name}.JPEG")
    pixels = np.zeros((4, 6, 3), np.uint8)
    for place, k in enumerate(ids):
        pixels[0, place, :2] = k % 256, k // 256
    Image.fromarray(pixels).save(root / "validation-segmentation" / f"{name}.png")


def test_masks_of_imagenet_s_become_classes(imagenet_s):
    segment(imagenet_s, f"{WNIDS[300]}/{val(1)[:-5]}", [1, 50, 1000])
    segment(imagenet_s, f"{WNIDS[349]}/{val(2)[:-5]}", [1000])
    found = open_imagenet_s(imagenet_s)
    assert [(e.valid, e.original, bool(e.skipped)) for e in found.examples] == [
        ((300, 349), 300, False),
        ((), 349, True),
    ]
    assert np.flatnonzero(found.judged).tolist() == list(range(300, 350))
    target = found.targets(np.array([0]))[0]
    assert (target == -1).sum() == 950
    assert np.flatnonzero(target == 1).tolist() == [300, 349]
    assert found.load(0).size == (6, 4)


def test_invalid_masks_are_rejected_by_name(imagenet_s):
    name = f"{WNIDS[301]}/{val(1)[:-5]}"
    mask = imagenet_s / "validation-segmentation" / f"{name}.png"
    segment(imagenet_s, name, [51])
    with pytest.raises(EvaluationError, match=rf"{mask}: class id 51; it must be 0, 1000, or at most 50"):
        open_imagenet_s(imagenet_s)
    segment(imagenet_s, name, [1], size=(4, 6))
    with pytest.raises(
        EvaluationError, match=rf"{mask}: mask size \(width, height\) \(6, 4\); must equal the image's, \(4, 6\)"
    ):
        open_imagenet_s(imagenet_s)
    mask.write_bytes(mask.read_bytes()[:40])
    with pytest.raises(EvaluationError, match=rf"{mask}: .*get ImageNet-S masks from https"):
        open_imagenet_s(imagenet_s)
    mask.unlink()
    with pytest.raises(EvaluationError, match=rf"{mask}: no such file"):
        open_imagenet_s(imagenet_s)


def test_folders_that_are_not_imagenet_s_are_rejected(imagenet_s):
    (imagenet_s / "validation" / WNIDS[300]).rename(imagenet_s / "validation" / "7")
    with pytest.raises(EvaluationError, match=r"validation/7: folders must be named by wnid"):
        open_imagenet_s(imagenet_s)
    (imagenet_s / "validation" / "7").rmdir()
    with pytest.raises(EvaluationError, match=r"49 class folders; ImageNet-S has 50, 300 or 919"):
        open_imagenet_s(imagenet_s)


def test_our_annotations_ignore_labels_below_the_minimum_score(tmp_path):
    rows = [
        row("a", (4, 4), [], label=3, labels=[(3, 0.9), (5, 0.6), (7, 0.2)]),
        row("b", (4, 4), [], label=3, labels=[(7, 0.2)]),
        row("c", (4, 4), [], label=3, status="unreadable"),
    ]
    store = AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    touch(tmp_path / "images" / "train", *(r["file_name"] for r in rows))
    found = open_annotations(tmp_path / "images", store)
    assert found.root == tmp_path / "images" / "train" == open_annotations(found.root, store).root  # either is accepted
    assert [(e.valid, e.original, e.skipped) for e in found.examples] == [
        ((3, 5), 3, ""), ((), 3, "no label scores at least 0.5"),
    ]  # fmt: skip
    assert found.files == [r["file_name"] for r in rows[:2]]
    assert open_annotations(found.root, store, min_score=0.1).examples[0].valid == (3, 5, 7)
    with pytest.raises(
        EvaluationError, match=r"set: none of 2 annotated images looked for is here, such as n01491361/a\.png"
    ):
        open_annotations(tmp_path / "set", store)
    with pytest.raises(EvaluationError, match="nowhere: no such folder"):
        open_annotations(tmp_path / "nowhere", store)


def test_a_folder_may_hold_its_class_folders_as_val(tmp_path):
    touch(tmp_path / "val", "0/a.jpg", "1/b.jpg")
    assert open_folder(tmp_path).files == open_folder(tmp_path / "val").files == ["0/a.jpg", "1/b.jpg"]


def test_a_root_stands_for_its_only_split(tmp_path):
    touch(tmp_path, "train/0/a.jpg")
    (tmp_path / "notes").mkdir()
    assert open_folder(tmp_path).root == tmp_path / "train"
    touch(tmp_path, "test/0/a.jpg")
    with pytest.raises(
        EvaluationError, match=r"holds test, train with class folders; name one of these, as in .*test$"
    ):
        open_folder(tmp_path)
    root = touch(tmp_path / "imagenet", f"val/{val(1)}")
    assert open_real(root, partial=True).root == root / "val"
    assert open_real(root, partial=True).files == open_real(root / "val", partial=True).files == [val(1)]


def test_real_accuracy_equals_timms(tmp_path):
    """timm's validate.py --real-labels counts with timm.data.RealLabelsImagenet."""
    timm_data = pytest.importorskip("timm.data")
    import torch

    root = touch(tmp_path, *map(val, range(1, 301)))
    data = open_real(root, partial=True)
    logits = np.random.default_rng(0).standard_normal((300, 1000)).astype(np.float32)
    for place, example in enumerate(data.examples):  # two of three are correct
        logits[place, list(example.valid if place % 3 else ())[:1]] = 9
    counter = timm_data.RealLabelsImagenet([val(k) for k in range(1, 50_001)], real_json=None)
    counter.add_result(torch.from_numpy(logits))
    report = evaluate(probabilities(logits, "softmax"), data)
    assert report.accuracy == pytest.approx(counter.get_accuracy(k=1) / 100)
    assert 0.5 < report.accuracy < 0.8


@pytest.mark.data
def test_the_published_files_are_read(real_data, tmp_path):
    found = open_real(touch(tmp_path, *map(val, range(1, 50_001))), real_data / "real.json")
    sizes = np.array([len(e.valid) for e in found.examples])
    assert found.evaluated.sum() == (sizes > 0).sum() == 46_837
    assert sizes[sizes > 0].mean() == pytest.approx(1.229, abs=5e-4)
    assert found.examples == open_real(tmp_path).examples  # timm's copy


@pytest.mark.data
@pytest.mark.parametrize(
    ("model", "mistakes", "no_label", "valid"), [("vit3b", 378, 64, 85), ("greedy_soups", 249, 52, 67)]
)
def test_published_mistakes_are_judged_by_real_labels(real_data, tmp_path, model, mistakes, no_label, valid):
    """The files hold only mistakes, so they determine neither top-1 nor multi-label accuracy, but they determine this.

    A plain loop over the files counts the images; the next test checks the published figures.
    """
    found = json.loads((real_data / "imagenet-mistakes" / f"{model}_mistakes.json").read_text())
    lists = json.loads((real_data / "real.json").read_text())
    pairs = [(lists[int(name[15:23]) - 1], item["top_prediction"]) for name, item in found.items()]
    assert (len(pairs), sum(not a for a, _ in pairs), sum(p in a for a, p in pairs)) == (mistakes, no_label, valid)

    data = open_real(touch(tmp_path, *found), real_data / "real.json", partial=True)
    scores = np.zeros((len(data), 1000), np.float32)
    scores[np.arange(len(data)), [found[file]["top_prediction"] for file in data.files]] = 1
    report = evaluate(scores, data)
    assert (report.images, report.evaluated, report.unread) == (mistakes, mistakes - no_label, 0)
    assert report.skipped == {"no class fits": no_label}
    assert report.accuracy == pytest.approx(valid / (mistakes - no_label))
    assert np.isnan(report.top1)


@pytest.mark.data
def test_published_mistakes_match_the_figures_of_their_paper(real_data):
    """arXiv 2205.04596: 40% of ViT-3B's mistakes are major; it misses all 68 of ImageNet-M, Greedy Soups all but 19."""
    folder = real_data / "imagenet-mistakes"
    vit, greedy = (json.loads((folder / f"{name}_mistakes.json").read_text()) for name in ("vit3b", "greedy_soups"))
    major = {name for name, item in vit.items() if item["failure severity"] == "Major"}
    assert len(major) / len(vit) == pytest.approx(0.40, abs=0.01)
    assert len(major) >= 68
    assert len(major & set(greedy)) >= 68 - 19
