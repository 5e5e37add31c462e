import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.config.options import ConfigError
from build.images.sources import list_images


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


@pytest.mark.parametrize("other", ["n01440764/b.png", "0/b.jpg", "n01440764/b_n01440764.JPEG", "b_n01440764.JPEG"])
def test_two_files_of_one_photograph_are_refused_with_both_names(tmp_path, other):
    tree(tmp_path, "0/a.jpg", "0/b.png")
    assert [image_id for image_id, _ in listed(tmp_path).values()] == ["n01440764/a", "n01440764/b"]
    tree(tmp_path, other)
    one, two = sorted(["0/b.png", other])
    with pytest.raises(ConfigError, match=rf"{one} and {two} would both be image n01440764/b; rename or remove one"):
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


@given(st.permutations(["0/b.jpg", "0/a/c.jpg", "0/a.png", "n01443537/z.JPG", "10/a.jpg", "flat.jpg"]))
@settings(deadline=None, max_examples=20)
def test_the_list_is_sorted_whatever_the_order_of_creation(names):
    with TemporaryDirectory() as folder:
        assert list(listed(tree(Path(folder), *names))) == sorted(names)


def test_extensions_count_in_any_case_and_other_kinds_do_not(tmp_path):
    tree(tmp_path, "0/a.JPEG", "0/b.Png", "0/c.TIFF", "0/d.WebP", "0/e.gif", "0/f.jpg.txt", "0/jpg")
    listing = list_images(str(tmp_path), split="train")
    assert [image.file_name for image in listing.images] == ["0/a.JPEG", "0/b.Png", "0/c.TIFF", "0/d.WebP"]
    assert listing.ignored == {".gif": 1, ".txt": 1, "jpg": 1}


def test_size_and_time_are_noted(tmp_path):
    tree(tmp_path, "0/a.jpg")
    os.utime(tmp_path / "0" / "a.jpg", ns=(5, 7))
    (image,) = list_images(str(tmp_path), split="train").images
    assert image.stamp == (1, 7)


def test_class_folders_beside_a_folder_named_as_the_split_are_not_passed_over(tmp_path):
    tree(tmp_path, "n01440764/a.jpg", "train/n01440764/b.jpg")
    with pytest.raises(ConfigError, match="train must be named"):
        listed(tmp_path)
    tree(tmp_path / "other", "0", "a.jpg", "train/0/b.jpg")  # a file named 0 is no class folder
    assert list(listed(tmp_path / "other")) == ["0/b.jpg"]


def test_another_split_takes_its_own_folder(tmp_path):
    tree(tmp_path, "train/0/a.jpg", "val/0/b.jpg")
    (image,) = list_images(str(tmp_path), split="val").images
    assert image.file_name == "0/b.jpg"


def test_a_folder_that_names_no_class_is_no_matter_without_images(tmp_path):
    tree(tmp_path, "0/a.jpg", "devkit/readme.txt")
    assert list(listed(tmp_path)) == ["0/a.jpg"]


def test_the_first_pair_by_name_is_the_one_that_is_told(tmp_path):
    tree(tmp_path, "0/a.jpg", "0/a.jpg.png", "0/a.png", "0/c.jpg", "0/c.png")
    with pytest.raises(
        ConfigError, match=r"0/a\.jpg and 0/a\.png would both be image n01440764/a; rename or remove one"
    ):
        listed(tmp_path)
    (tmp_path / "0/a.png").unlink()
    (tmp_path / "0/c.png").unlink()
    assert listed(tmp_path)["0/a.jpg.png"] == ("n01440764/a.jpg", 0)


def test_images_in_no_folder_get_the_class_of_their_name(tmp_path):
    tree(tmp_path, "n01440764_5.JPEG", "ILSVRC2012_val_00000293_n01443537.JPEG", "ILSVRC2012_val_00000294.JPEG")
    assert listed(tmp_path) == {
        "ILSVRC2012_val_00000293_n01443537.JPEG": ("n01443537/ILSVRC2012_val_00000293", 1),
        "ILSVRC2012_val_00000294.JPEG": ("ILSVRC2012_val_00000294", None),
        "n01440764_5.JPEG": ("n01440764/n01440764_5", 0),
    }


def test_unlabelled_ids_are_paths(tmp_path):
    tree(tmp_path, "n01440764/a.jpg", "holiday/2024/b.jpg", "c.jpg")
    assert listed(tmp_path, unlabelled=True) == {
        "c.jpg": ("c", None),
        "holiday/2024/b.jpg": ("holiday/2024/b", None),
        "n01440764/a.jpg": ("n01440764/a", None),
    }


def test_one_class_may_have_two_folders_if_files_differ(tmp_path):
    tree(tmp_path, "1/a.jpg", "n01443537/b.jpg")
    assert listed(tmp_path) == {"1/a.jpg": ("n01443537/a", 1), "n01443537/b.jpg": ("n01443537/b", 1)}


@pytest.mark.parametrize(
    ("limit", "chosen"), [(0, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (2, [0, 2])]
)
def test_a_limit_of_zero_or_more_than_all_takes_all(tmp_path, limit, chosen):
    tree(tmp_path, *(f"{k}/x.jpg" for k in range(5)))
    assert [label for _, label in listed(tmp_path, limit=limit).values()] == chosen


def test_a_link_to_itself_is_listed_as_a_broken_one(tmp_path):
    tree(tmp_path, "0/a.jpg")
    os.symlink("loop.jpg", tmp_path / "0" / "loop.jpg")
    os.symlink("loop", tmp_path / "0" / "loop")
    listing = list_images(str(tmp_path), split="train")
    assert [(image.file_name, image.stamp[0]) for image in listing.images] == [("0/a.jpg", 1), ("0/loop.jpg", -1)]


def test_a_folder_reached_on_two_ways_counts_twice(tmp_path):
    tree(tmp_path, "0/a.jpg")
    os.symlink(tmp_path / "0", tmp_path / "1")
    assert list(listed(tmp_path)) == ["0/a.jpg", "1/a.jpg"]
