"""Masks of the paper's authors: COCO JSON in any order, and the files that name them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mlimagenet_data import LabelPolicy, MultiLabelImageNet
from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.importing import Import, import_annotations
from mlimagenet_data.formats.mask_store import MaskStore

LEFT = np.zeros((20, 30), bool)
LEFT[4:16, 1:12] = True
RIGHT = LEFT[:, ::-1].copy()


def annotation(number, image, mask):
    return {"id": number, "image_id": image, "category_id": 1, "bbox": [0.5, 1.0, 2.0, 3.0], "area": 7.5, "iscrowd": 0,
            "segmentation": {"size": list(mask.shape), "counts": encode_mask(mask)}}  # fmt: skip


def image(number, name):
    return {"id": number, "file_name": name, "height": 20, "width": 30, "license": None}


def write(path, images, annotations, order=("info", "annotations", "images")):
    parts = {
        "info": {"images": 3},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "fg"}],
    }
    path.write_text(json.dumps({name: parts[name] for name in (*order, "categories")}))
    return path


@pytest.fixture
def given(tmp_path):
    """Two images with a mask on each side; masks 10 and 12 are named."""
    (tmp_path / "a.tsv").write_text("n01440764_1.JPEG\t0\t0,7\t0.9,0.8\nn01440764_2.JPEG\t0\t7\t0.9\n")
    masks = [annotation(10, 2, LEFT), annotation(11, 1, RIGHT), annotation(12, 1, LEFT), annotation(13, 2, RIGHT)]
    names = ["n01440764_1.JPEG", "n01440764/n01440764_2.JPEG"]
    write(tmp_path / "p.json", [image(k + 1, name) for k, name in enumerate(names)], masks)
    torch.save({12: {"prob": [0.7, 0.2, 0.0], "label": [7, 0, 3]}}, tmp_path / "job_000.pt")
    torch.save({11: {"prob": [0.1, 0.6], "label": [7, 0]}, 99: {"prob": [1.0], "label": [1]}}, tmp_path / "job_001.pt")
    return tmp_path


def test_named_masks_become_regions_and_labels_follow_crops(given):
    jobs = [str(given / f"job_00{k}.pt") for k in range(2)]
    command = [
        "import",
        str(given / "a.tsv"),
        "--from",
        "tsv",
        "--proposals",
        str(given / "p.json"),
        "--region-classes",
        *jobs,
    ]
    assert main([*command, "--out", str(given / "set")]) == 0
    store = AnnotationStore(given / "set", "train")
    first, second = store.record(0), store.record(1)
    assert [region.label for region in first.regions] == [0, 7]
    assert [pair for pair, _ in first.regions[1].topk] == [7, 0]
    assert [region.score for region in first.regions] == pytest.approx([0.6, 0.7])
    np.testing.assert_array_equal(first.regions[1].mask, LEFT)
    assert [region.topk for region in second.regions] == [(), ()]  # no file names these
    for path in (given / "images" / store.file_name(k) for k in range(2)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(path)
    for padding, shown in (([0, 0, -15, 0], {7}), ([-15, 0, 0, 0], {0})):
        dataset = MultiLabelImageNet(
            given / "images", v2.Pad(padding), annotations=given / "set", policy=LabelPolicy(min_score=0.5)
        )
        assert set(dataset[0][1].nonzero().ravel().tolist()) == shown


@pytest.mark.parametrize(
    "order", [("info", "images", "annotations"), ("annotations", "info", "images"), ("images", "info", "annotations")]
)
def test_the_order_in_the_file_does_not_matter(given, order):
    masks = [annotation(k, 1, mask) for k, mask in enumerate((LEFT, RIGHT, LEFT))]
    write(given / "p.json", [image(1, "n01440764_1.JPEG")], masks, order)
    with MaskStore(given / "p.json", [], Faults(skip=False)) as store:
        assert (store.images, store.masks) == (1, 3)
        assert store.holds("n01440764_1")
        found = store.of("n01440764_1")
    assert (found["height"], found["width"], len(found["regions"])) == (20, 30, 3)
    assert found["regions"][0]["mask"]["counts"] == encode_mask(LEFT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], r"p\.json: not JSON, or cut off, after \d+ (images|annotations)"),
        (
            lambda text: text.replace('"image_id": 2', '"image_id": 5', 1),
            r"annotations\[0\], image_id: 5 is not the id of a",
        ),
        (
            lambda text: text.replace("_2.JPEG", "_1.JPEG"),
            r"images\[1\], file_name: .* repeats the id or the photograph",
        ),
        (lambda text: text.replace('"size": [20, 30]', '"size": [30, 20]', 1), r"annotations\[0\], segmentation.size"),
        (lambda text: text.replace('"annotations"', '"others"'), "no list 'annotations' at the top level"),
        (
            lambda text: text.replace('"n01440764_1.JPEG"', '"../x"'),
            r"images\[0\], file_name: '../x' must be a relative path",
        ),
    ],
)
def test_damaged_files_are_named(given, change, message):
    (given / "p.json").write_text(change((given / "p.json").read_text()))
    with pytest.raises(AnnotationError, match=message):
        import_annotations(Import(given / "a.tsv", "tsv", given / "set", proposals=given / "p.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rubbish", "not a file of torch.save with plain values only"),
        ([1, 2], "holds a list; it must hold a dict of mask ids"),
        ({12: {"prob": [0.5], "label": [0, 1]}}, "mask 12, label, prob: .* same length"),
        ({12: [1]}, "mask 12, label, prob"),
        ({12: {"prob": [0.5], "label": [1000]}}, "mask 12, label: .* must be distinct classes from 0 to 999"),
        ({12: {"prob": [0.5, 0.2], "label": [1, 1]}}, "mask 12, label: .* distinct"),
        ({12: {"prob": [1.5], "label": [1]}}, r"mask 12, prob: \[1.5\] must be probabilities"),
        ({12: {"prob": [float("nan")], "label": [1]}}, "mask 12, prob"),
        ({12: {"prob": [0.0], "label": [1]}}, "mask 12, prob: .* not all 0"),
    ],
)
def test_files_of_names_are_checked(given, content, message):
    path = given / "job_000.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    options = {"proposals": given / "p.json", "region_classes": (path,)}
    with pytest.raises(AnnotationError, match=rf"job_000\.pt: .*{message}"):
        import_annotations(Import(given / "a.tsv", "tsv", given / "set", **options))


def test_objects_are_never_loaded_from_files_of_names(given):
    torch.save({12: print}, given / "job_000.pt")
    options = {"proposals": given / "p.json", "region_classes": (given / "job_000.pt",)}
    with pytest.raises(AnnotationError, match=r"job_000\.pt: not a file of torch\.save with plain values only"):
        import_annotations(Import(given / "a.tsv", "tsv", given / "set", **options))
    with pytest.raises(AnnotationError, match="--region-classes names the masks of --proposals"):
        import_annotations(Import(given / "a.tsv", "tsv", given / "set", region_classes=(given / "job_000.pt",)))
