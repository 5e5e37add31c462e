"""COCO and VOC as multi-label datasets in examples/train.py, on generated images."""

import json

import numpy as np
import recipe
import targets
from PIL import Image

from tests.examples.test_recipes import run


def test_whole_makes_evaluation_show_the_whole_image():
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, 54:] = 255
    middle, whole = (
        targets.make_transforms(30, "none", (0, 0, 0), (1, 1, 1), whole=whole)[1](Image.fromarray(pixels))
        for whole in (False, True)
    )
    assert middle.shape == whole.shape == (3, 30, 30)
    assert middle.max() < 0.1
    assert whole[:, :, -1].min() > 0.9


def write_coco(root):
    """Write three images: a cat and a dog; a crowd of dogs; nothing."""
    for split in ("train", "val"):
        images = [{"id": k, "file_name": f"{k}.jpg", "height": 32, "width": 32} for k in range(3)]
        boxes = [(0, 17, 0), (0, 18, 0), (1, 18, 1)]
        objects = [{"id": k + 1, "image_id": i, "category_id": c, "iscrowd": crowd, "bbox": [0, 0, 9, 9], "area": 81}
                   for k, (i, c, crowd) in enumerate(boxes)]  # fmt: skip
        categories = [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}]
        write_pixels(root / f"{split}2017", images)
        file = root / "annotations" / f"instances_{split}2017.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))


def write_pixels(folder, images):
    folder.mkdir(parents=True)
    for item in images:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(
            folder / item["file_name"]
        )


def test_coco_becomes_multi_hot_and_trains(tmp_path, capsys):
    write_coco(tmp_path)
    args = recipe.parse("", [str(tmp_path), "--dataset", "coco"])
    dataset = targets.make_dataset(args, lambda image: image.size, "val", train=False)
    assert dataset.classes == ["cat", "dog"]
    assert [dataset[k][1]["target"].tolist() for k in range(3)] == [[1, 1], [0, 1], [0, 0]]
    run(tmp_path, tmp_path / "run", "--dataset", "coco", "--epochs", 1, "--val-split", "val", "--loss", "asl")
    assert "mAP" in capsys.readouterr().out


def write_voc(root):
    base = root / "VOCdevkit" / "VOC2007"
    write_pixels(base / "JPEGImages", [{"file_name": "000001.jpg"}, {"file_name": "000002.jpg"}])
    objects = {"000001": [("cat", 0), ("dog", 1), ("cat", 1)], "000002": []}
    (base / "Annotations").mkdir()
    for name, found in objects.items():
        text = "".join(f"<object><name>{kind}</name><difficult>{d}</difficult></object>" for kind, d in found)
        (base / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{text}</annotation>"
        )
    lists = base / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("trainval", "test"):
        (lists / f"{split}.txt").write_text("000001\n000002\n")


def test_vocs_difficult_objects_are_undecided(tmp_path, capsys):
    write_voc(tmp_path)
    args = recipe.parse("", [str(tmp_path), "--dataset", "voc2007"])
    dataset = targets.make_dataset(args, lambda image: image.size, "test", train=False)
    found = dataset[0][1]["target"]
    named = {targets.VOC_CLASSES[k]: float(found[k]) for k in found.nonzero().flatten().tolist()}
    assert named == {"cat": 1.0, "dog": -1.0}
    assert not dataset[1][1]["target"].any()
    run(tmp_path, tmp_path / "run", "--dataset", "voc2007", "--epochs", 1, "--val-split", "test")
    assert "mAP" in capsys.readouterr().out
