import numpy as np
import pytest
from PIL import Image

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.formats import imagenet_s as module
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.imagenet_s import read_class_list, read_imagenet_s

CLASSES = list(range(3, 600))  # ids 1, 2, ... are the classes 3, 4, ...


def write_mask(folder, name, ids):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_list(path, wnids):
    path.write_text("".join(f"{wnid}\n" for wnid in wnids))
    return path


def test_ids_become_regions_largest_first(tmp_path):
    ids = np.zeros((8, 10), np.int64)
    ids[:2] = 300  # exceeds one byte
    ids[4:] = 2
    ids[7, 9] = 1000
    write_mask(tmp_path / "masks", "n01440764/n01440764_5.png", ids)
    (row,) = read_imagenet_s(tmp_path / "masks", CLASSES, Faults(skip=False))
    assert (row["image_id"], row["file_name"]) == ("n01440764/n01440764_5", "n01440764/n01440764_5.JPEG")
    assert (row["label"], row["labels"], row["scores"]) == (0, [4, 302], [1.0, 1.0])
    assert [region["area"] for region in row["regions"]] == [39 / 80, 20 / 80]
    assert row["regions"][1]["bbox"] == [0.0, 0.0, 1.0, 0.25]


def test_the_loader_reads_imported_masks(tmp_path):
    generator = np.random.default_rng(0)
    masks = {f"n01440764/{k}.png": generator.choice([0, 1, 2, 3, 1000], (12, 9)) for k in range(4)}
    for name, ids in masks.items():
        write_mask(tmp_path / "masks", name, ids)
    write_mask(tmp_path / "masks", "n01443537/empty.png", np.zeros((3, 4), np.int64))
    wnids = [imagenet_classes().wnids[k] for k in (9, 2, 700)]
    classes = str(write_list(tmp_path / "list.txt", wnids))
    command = ["import", str(tmp_path / "masks"), "--from", "imagenet-s", "--classes", classes]
    assert main([*command, "--out", str(tmp_path / "set"), "--split", "val"]) == 0
    store = AnnotationStore(tmp_path / "set", "val")
    for row, ids in enumerate(masks.values()):
        record = store.record(row)
        assert record.size == (12, 9)
        assert {region.label for region in record.regions} == {(2, 9, 700)[k - 1] for k in np.unique(ids) if 0 < k < 4}
        for region in record.regions:
            np.testing.assert_array_equal(region.mask, ids == (2, 9, 700).index(region.label) + 1)
    assert (store.record(4).status, store.record(4).labels) == ("no_regions", ())


def test_invalid_masks_are_named_or_counted(tmp_path):
    write_mask(tmp_path, "n01440764/good.png", np.ones((2, 2), np.int64))
    write_mask(tmp_path, "n01440764/id.png", np.full((2, 2), 598))
    write_mask(tmp_path, "other/a.png", np.ones((2, 2), np.int64))
    (tmp_path / "n01440764/text.png").write_bytes(b"no image")
    Image.new("RGB", (4, 4)).save(tmp_path / "n01440764/jpeg.png", format="JPEG")
    faults = Faults(skip=True)
    rows = list(read_imagenet_s(tmp_path, CLASSES, faults))
    assert [row["image_id"] for row in rows] == ["n01440764/good"]
    assert [message.partition(", ")[0].rpartition("/")[2] for message in faults.messages] == [
        "id.png", "jpeg.png", "text.png", "a.png",
    ]  # fmt: skip
    assert "class id 598; it must be 0, 1000, or at most 597" in faults.messages[0]
    with pytest.raises(AnnotationError, match=r"id\.png, mask: .*id 598"):
        list(read_imagenet_s(tmp_path, CLASSES, Faults(skip=False)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match="no PNG file"):
        list(read_imagenet_s(tmp_path / "empty", CLASSES, Faults(skip=False)))


def test_a_huge_mask_is_refused_by_its_header(tmp_path, monkeypatch):
    write_mask(tmp_path, "n01440764/a.png", np.ones((20, 20), np.int64))
    monkeypatch.setattr(module, "MAX_CELLS", 399)
    monkeypatch.setattr(module, "load_image", None)  # must not be called
    with pytest.raises(AnnotationError, match="20 x 20 pixels; a mask must have at most 399"):
        list(read_imagenet_s(tmp_path, CLASSES, Faults(skip=False)))


def test_ids_follow_the_sorted_list(tmp_path):
    wnids = imagenet_classes().wnids
    assert read_class_list(write_list(tmp_path / "a.txt", [wnids[7], wnids[1], "", wnids[999]])) == [1, 7, 999]
    for lines, words in (
        ([wnids[1], "n00000000"], "line 2: 'n00000000' is not a WordNet id"),
        ([wnids[1], wnids[1]], "line 2: .* or repeats an earlier line"),
        ([], "0 classes"),
    ):
        with pytest.raises(AnnotationError, match=rf"a\.txt: {words}"):
            read_class_list(write_list(tmp_path / "a.txt", lines))
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_class_list(tmp_path / "a.txt")
