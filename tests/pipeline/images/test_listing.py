import datetime
import os
import socket
import types
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.config.options import ConfigError
from build.images.listing import ODD_NAMES, file_stamps, left_out_text
from build.images.listing_check import changes_since
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
    assert listing.left_out == {"other files (.txt)": 1, "other files (.xml)": 2, "hidden folders": 1}
    assert listing.found == 5


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
    assert listing.left_out == {"other files (.gif)": 1, "other files (.txt)": 1, "other files (no extension)": 1}


def test_size_and_time_are_noted(tmp_path):
    tree(tmp_path, "0/a.jpg")
    os.utime(tmp_path / "0" / "a.jpg", ns=(5, 7))
    (image,) = list_images(str(tmp_path), split="train").images
    assert image.stamp == (1, 7)


def test_class_folders_beside_a_folder_named_as_the_split_are_not_passed_over(tmp_path):
    tree(tmp_path, "n01440764/a.jpg", "train/n01440764/b.jpg")
    with pytest.raises(ConfigError, match="'train' must be named"):
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


def test_a_folder_reached_on_two_ways_is_listed_where_it_is(tmp_path):
    tree(tmp_path, "1/a.jpg")
    os.symlink(tmp_path / "1", tmp_path / "0")
    listing = list_images(str(tmp_path), split="train")
    assert [image.file_name for image in listing.images] == ["1/a.jpg"]
    assert listing.left_out == {"links to folders that are listed already": 1}


def test_only_regular_files_are_images(tmp_path):
    tree(tmp_path, "0/a.jpg")
    os.mkfifo(tmp_path / "0" / "fifo.jpg")
    os.symlink("fifo.jpg", tmp_path / "0" / "linked.jpg")
    os.symlink("/dev/null", tmp_path / "0" / "device.jpg")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(tmp_path / "0" / "socket.jpg"))  # a socket's path has at most 108 bytes
        listing = list_images(str(tmp_path), split="train")
    assert [image.file_name for image in listing.images] == ["0/a.jpg"]
    assert listing.left_out == {"FIFOs, sockets and devices": 4}


def test_names_that_no_table_can_hold_are_counted_with_an_example(tmp_path):
    tree(tmp_path, "0/a.jpg", "0/b\\c.jpg", "0/d\n.jpg", "C:d.jpg", "0/12:30.jpg", "12:30.jpg")
    (tmp_path / "0" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    (tmp_path / "0" / os.fsdecode(b"\xfe")).mkdir()
    (tmp_path / "0" / os.fsdecode(b"\xfe") / "d.jpg").write_bytes(b"x")
    listing = list_images(str(tmp_path), split="train")
    assert [image.file_name for image in listing.images] == ["0/12:30.jpg", "0/a.jpg", "12:30.jpg"]
    assert listing.left_out == {
        r"names that are not UTF-8, such as '0/\udcfe/d.jpg'": 2,
        rf"{ODD_NAMES}, such as '0/b\\c.jpg'": 3,
    }
    assert "\udcfe" not in left_out_text(listing.left_out)


def test_many_kinds_of_other_files_are_counted_in_a_few_lines(tmp_path):
    tree(tmp_path, "0/a.jpg", *(f"0/b.x{k}" for k in range(60)), "0/c.\x1b[31m", "0/d.aVeryLongExtension")
    left_out = list_images(str(tmp_path), split="train").left_out
    assert left_out.total() == 62
    assert len(left_out) == 51
    assert left_out["other files (odd extensions)"] == 2
    assert left_out["other reasons"] == 11


def test_images_beside_the_split_and_beyond_the_limit_are_counted(tmp_path):
    tree(tmp_path, "stray.jpg", "train/0/a.jpg", "train/0/b.jpg", "train/0/backup.tar", "val/0/c.jpg")
    listing = list_images(str(tmp_path), split="train", limit=1)
    assert [image.file_name for image in listing.images] == ["0/a.jpg"]
    assert listing.left_out == {
        "image files beside the folder train/": 1, "images beyond --limit": 1, "tar and Parquet files in an image folder": 1,
    }  # fmt: skip
    assert listing.found == 4


@pytest.mark.parametrize("year", [1901, 2400])
def test_any_time_that_a_disk_can_hold_is_noted(tmp_path, year):
    tree(tmp_path, "0/a.jpg")
    seconds = int(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp())
    try:
        os.utime(tmp_path / "0" / "a.jpg", (seconds, seconds))
    except OSError:
        pytest.skip("this file system holds no such times")
    listing = list_images(str(tmp_path), split="train")
    assert len(listing.images) == 1
    assert changes_since(listing) == ""


def test_the_time_of_change_and_the_inode_are_noted(tmp_path):
    tree(tmp_path, "0/a.jpg")
    (image,) = list_images(str(tmp_path), split="train").images
    info = os.stat(tmp_path / "0" / "a.jpg")
    assert (image.changed_ns, image.inode) == (info.st_ctime_ns, info.st_ino)
    largest = types.SimpleNamespace(st_size=1, st_mtime_ns=2, st_ctime_ns=3, st_ino=2**64 - 1)
    assert file_stamps(largest) == (1, 2, 3, -1)
    assert (image.container, image.source, image.fault) == (None, None, None)


@pytest.mark.parametrize(("closed", "unlabelled"), [("lost+found", False), ("0", True), ("0", False)])
def test_folders_that_may_not_be_read_are_counted_unless_they_name_a_class(tmp_path, monkeypatch, closed, unlabelled):
    tree(tmp_path, "0/a.jpg", "1/b.jpg", "lost+found/c.jpg")
    scan = os.scandir

    def denied(path):
        if os.path.basename(os.fspath(path)) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    if closed == "0" and not unlabelled:
        with pytest.raises(ConfigError, match="0 may not be read, but is a class folder; grant access"):
            list_images(str(tmp_path), split="train")
        return
    listing = list_images(str(tmp_path), split="train", unlabelled=unlabelled)
    assert len(listing.images) == 2
    assert listing.left_out == {f"folders that may not be read, such as '{closed}'": 1}
