import io

import datasets
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from mlimagenet_data import with_labels
from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.names import image_id_of
from tests.support.annotated import random_rows, row, write_images, write_rows

TRANSFORM = v2.Compose([v2.CenterCrop(16), v2.ToImage()])


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("n01440764_10026_n01440764.JPEG", "n01440764/n01440764_10026"),
        ("n01440764_10026.JPEG", "n01440764/n01440764_10026"),
        ("n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026"),
        ("train/n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026"),
        ("ILSVRC2012_val_00000293_n01440764.JPEG", "n01440764/ILSVRC2012_val_00000293"),
        ("n01440764/anything.png", "n01440764/anything"),
        ("photo.jpg", "photo"),
    ],
)
def test_names_of_known_copies_become_image_ids(name, image_id):
    assert image_id_of(name) == image_id


def encoded(path):
    """Return one-row image datasets: without a label, and with each of several labels."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    rows = {"image": [{"bytes": buffer.getvalue(), "path": path}]}
    return [
        datasets.Dataset.from_dict(rows | more).cast_column("image", datasets.Image())
        for more in ({}, {"label": [1]}, {"label": [-1]}, {"label": [1000]}, {"label": ["1"]})
    ]


def test_a_name_without_a_class_takes_it_from_the_label_column_or_is_the_id(tmp_path):
    rows = [row("photo", (8, 8), [], label=1, labels=[(1, 0.9)]), row("photo", (8, 8), [], labels=[(2, 0.9)])]
    rows[1] |= {"image_id": "photo", "file_name": "photo.png", "label": None}
    write_rows(tmp_path, rows)
    for name in ("photo.jpg", "/somewhere/photo.jpg", "zip://photo.jpg::/somewhere/a.zip"):
        found = [with_labels(images, tmp_path)[0][1].nonzero().ravel().tolist() for images in encoded(name)]
        assert found == [[2], [1], [2], [2], [2]]


@pytest.mark.parametrize(
    "name", ["/data/train/n01443537/photo.jpg", "zip://1/photo.png::a.zip", "photo_n01443537.JPEG"]
)
def test_a_class_in_the_name_overrides_the_label_column(tmp_path, name):
    write_rows(tmp_path, [row("photo", (8, 8), [], label=1, labels=[(1, 0.9)])])
    for images in encoded(name):
        assert with_labels(images, tmp_path)[0][1].nonzero().ravel().tolist() == [1]


def test_a_row_whose_image_has_no_file_name_needs_a_key(tmp_path):
    write_rows(tmp_path, [row("photo", (8, 8), [])])
    with pytest.raises(AnnotationError, match="key="):
        with_labels(encoded(None)[0], tmp_path)[0]


@pytest.fixture
def parts(tmp_path):
    rows = random_rows(6)
    write_rows(tmp_path / "mlimagenet", rows)
    write_images(tmp_path, rows)
    encoded = []
    for item in rows:
        path = tmp_path / "train" / item["file_name"]
        wnid, _, stem = item["image_id"].partition("/")
        encoded.append({"bytes": path.read_bytes(), "path": f"{stem}_{wnid}.JPEG"})
    images = datasets.Dataset.from_dict({"image": encoded, "name": [r["file_name"] for r in rows]}).cast_column(
        "image", datasets.Image()
    )
    return images, tmp_path


def test_a_map_style_dataset_matches_the_image_folder(parts):
    images, root = parts
    labelled = with_labels(images, root / "mlimagenet", transform=TRANSFORM)
    expected = MultiLabelImageNet(root, TRANSFORM, annotations=root / "mlimagenet")
    assert len(labelled) == len(expected) == 6
    for (image, target), (image_too, target_too) in zip(
        [labelled[i] for i in range(6)], [expected[i] for i in range(6)], strict=True
    ):
        assert torch.equal(image, image_too)
        assert torch.equal(target, target_too)


def test_streaming_splits_rows_between_workers(parts):
    images, root = parts
    labelled = with_labels(images.to_iterable_dataset(num_shards=2), root / "mlimagenet", transform=TRANSFORM)
    alone = [target.nonzero().ravel().tolist() for _, target in labelled]
    spread = [target.nonzero().ravel().tolist() for _, target in DataLoader(labelled, None, num_workers=2)]
    assert sorted(spread) == sorted(alone)
    assert len(alone) == 6


def test_a_column_or_a_function_can_be_the_key(parts):
    images, root = parts
    by_column = with_labels(images, root / "mlimagenet", key="name")
    by_function = with_labels(images, root / "mlimagenet", key=lambda row: image_id_of(row["name"]))
    assert torch.equal(by_column[2][1], by_function[2][1])


def test_a_row_without_annotations_raises_an_error_that_names_it(parts):
    _, root = parts
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    other = datasets.Dataset.from_dict(
        {"image": [{"bytes": buffer.getvalue(), "path": "n01440764_99999_n01440764.JPEG"}]}
    )
    labelled = with_labels(other.cast_column("image", datasets.Image()), root / "mlimagenet")
    with pytest.raises(AnnotationError, match="n01440764_99999"):
        labelled[0]


def test_another_image_of_the_same_name_is_an_error(parts):
    images, root = parts
    path = images.cast_column("image", datasets.Image(decode=False))[0]["image"]["path"]
    buffer = io.BytesIO()
    Image.new("RGB", (5, 7)).save(buffer, "PNG")
    other = datasets.Dataset.from_dict({"image": [{"bytes": buffer.getvalue(), "path": path}]})
    with pytest.raises(AnnotationError, match="7 x 5 pixels"):
        with_labels(other.cast_column("image", datasets.Image()), root / "mlimagenet")[0]


def test_a_missing_image_column_is_refused(parts):
    images, root = parts
    with pytest.raises(ValueError, match="image, name"):
        with_labels(images, root / "mlimagenet", image_column="picture")
