import os

import pytest

from build.config import ConfigError
from build.inputs import list_images


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def listed(root, **options):
    return {
        image.file_name: (image.image_id, image.label)
        for image in list_images(str(root), split="train", **options).images
    }


def test_classes_come_from_wnids_and_indices_at_any_depth(tmp_path):
    tree(tmp_path, "n01440764/a.JPEG", "n01440764/deep/er/b.PNG", "999/c.jpg", "0/d.jpg", "flat.webp")
    assert listed(tmp_path) == {
        "0/d.jpg": ("n01440764/d", 0),
        "999/c.jpg": ("n15075141/c", 999),
        "flat.webp": ("flat", None),
        "n01440764/a.JPEG": ("n01440764/a", 0),
        "n01440764/deep/er/b.PNG": ("n01440764/deep/er/b", 0),
    }


def test_the_split_folder_is_found(tmp_path):
    tree(tmp_path, "train/n01440764/a.jpg", "val/n01440764/b.jpg")
    assert list(listed(tmp_path)) == ["n01440764/a.jpg"]


@pytest.mark.parametrize("name", ["cats", "1000", "007", "n00000000"])
def test_other_folders_are_named_with_the_way_out(tmp_path, name):
    tree(tmp_path, f"{name}/a.jpg")
    with pytest.raises(ConfigError, match=f"{name}.*--unlabelled"):
        listed(tmp_path)
    assert listed(tmp_path, unlabelled=True) == {f"{name}/a.jpg": (f"{name}/a", None)}


def test_ids_stay_unique(tmp_path):
    tree(tmp_path, "0/a.jpg", "0/a.png", "0/b.png")
    assert [image_id for image_id, _ in listed(tmp_path).values()] == [
        "n01440764/a.jpg",
        "n01440764/a.png",
        "n01440764/b",
    ]
    tree(tmp_path, "n01440764/b.png")
    with pytest.raises(ConfigError, match=r"0/b\.png and n01440764/b\.png"):
        listed(tmp_path)


def test_a_limit_is_spread_over_the_list(tmp_path):
    tree(tmp_path, *(f"{k}/{k}.jpg" for k in range(10)))
    assert [label for _, label in listed(tmp_path, limit=5).values()] == [0, 2, 4, 6, 8]


def test_other_files_are_counted_and_hidden_folders_left_alone(tmp_path):
    tree(tmp_path, "0/a.jpg", "0/notes.txt", "0/b.xml", "0/c.xml", ".cache/d.jpg")
    listing = list_images(str(tmp_path), split="train")
    assert [image.file_name for image in listing.images] == ["0/a.jpg"]
    assert listing.ignored == {".txt": 1, ".xml": 2}


def test_links_are_followed_but_not_in_circles(tmp_path):
    tree(tmp_path / "elsewhere", "a.jpg")
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "root" / "n01440764")
    os.symlink(tmp_path / "elsewhere", tmp_path / "elsewhere" / "again")
    os.symlink("nowhere", tmp_path / "elsewhere" / "broken.jpg")
    found = {image.file_name: image.stamp for image in list_images(str(tmp_path / "root"), split="train").images}
    assert set(found) == {"n01440764/a.jpg", "n01440764/broken.jpg"}
    assert found["n01440764/broken.jpg"] == (-1, -1)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no image file"):
        listed(tmp_path)
