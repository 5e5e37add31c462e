import os
import shutil

import pytest

from build.images import listing_check
from build.images.listing import digest_of, stamps_of
from build.images.listing_check import changes_since
from build.images.sources import list_images
from tests.support.containers import picture, write_parquet, write_tar


def make_folder(root):
    for k in range(20):
        path = root / str(k) / "a.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * k)
    os.symlink("nowhere.jpg", root / "0" / "broken.jpg")
    return list_images(str(root), split="train")


def test_files_as_listed_have_no_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(listing_check, "_PART", 3)
    listing = make_folder(tmp_path)
    (tmp_path / "new.jpg").write_bytes(b"x")
    os.chmod(tmp_path / "5" / "a.jpg", 0o600)  # another change time, the same content
    assert changes_since(listing) == ""
    assert changes_since(listing, content=True) == ""


def swap(root):
    first, second = root / "3" / "a.jpg", root / "4" / "a.jpg"
    first.rename(root / "x")
    second.rename(first)
    (root / "x").rename(second)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "3/a.jpg").unlink(), "3/a.jpg: No such file or directory"),
        (lambda root: (root / "3/a.jpg").write_bytes(b"1234"), "3/a.jpg: 4 bytes, but 3 when it was listed"),
        (lambda root: os.utime(root / "3/a.jpg", (5, 5)), "3/a.jpg: modified since it was listed"),
        (
            lambda root: (root / "0/nowhere.jpg").write_bytes(b"x"),
            "0/broken.jpg: there now, but missing when it was listed",
        ),
        (
            lambda root: ((root / "3/a.jpg").unlink(), os.mkfifo(root / "3/a.jpg")),
            "3/a.jpg: no longer a regular file",
        ),
        (lambda root: shutil.rmtree(root / "3"), "3/a.jpg: No such file or directory"),
        (swap, "3/a.jpg: 4 bytes, but 3 when it was listed; 2 of 21 files differ"),
    ],
)
def test_the_first_file_that_differs_is_named_with_the_reason(tmp_path, change, expected):
    listing = make_folder(tmp_path)
    change(tmp_path)
    assert changes_since(listing) == f"{tmp_path}/{expected}"


def test_a_root_that_is_gone_is_one_text(tmp_path):
    listing = make_folder(tmp_path / "images")
    shutil.rmtree(tmp_path / "images")
    assert changes_since(listing) == f"{tmp_path / 'images'}: no such folder"


def rewrite(path, write):
    """Write a file anew under its old modification time."""
    info = path.stat()
    write(path)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_a_tar_file_of_another_structure_is_noticed_at_the_same_size_and_time(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.png", picture(0)), ("b.png", picture(1))])
    listing = list_images(str(path), split="train")
    assert changes_since(listing, content=True) == ""
    shutil.copy2(path, tmp_path / "copy.tar")
    (tmp_path / "copy.tar").rename(path)  # another inode, the same structure
    assert changes_since(listing) == ""
    rewrite(path, lambda path: write_tar(path, [("b.png", picture(0)), ("a.png", picture(1))]))
    assert changes_since(listing) == f"{path}: other contents than when it was listed"


def test_a_parquet_file_of_other_rows_is_noticed_at_the_same_time(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [("a.png", b"x", 0), ("b.png", b"y", 1)])
    listing = list_images(str(path), split="train")
    assert changes_since(listing) == changes_since(listing, content=True) == ""
    rewrite(path, lambda path: write_parquet(path, [("b.png", b"y", 1), ("a.png", b"x", 0)]))  # the same footer
    assert changes_since(listing) == f"{path}: other contents than when it was listed"
    later = list_images(str(path), split="train")
    assert digest_of(later.images, times=True) != digest_of(listing.images, times=True)


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_container_that_is_damaged_or_gone_is_noticed(tmp_path, name):
    write = write_tar if name == "a.tar" else write_parquet
    path = write(tmp_path / name, [("a.png", b"x")] if name == "a.tar" else [("a.png", b"x", 0)])
    listing = list_images(str(path), split="train")
    rewrite(path, lambda path: path.write_bytes(b"nothing" * 100))
    assert changes_since(listing).startswith(f"{path}: damaged since it was listed: ")
    os.utime(path, (5, 5))
    assert changes_since(listing) == f"{path}: modified since it was listed"
    path.unlink()
    assert changes_since(listing) == f"{path}: No such file or directory"
    os.mkfifo(path)
    assert changes_since(listing) == f"{path}: no longer a regular file"


def test_a_copy_has_the_same_digest_and_other_stamps(tmp_path):
    listing = make_folder(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    copy = list_images(str(tmp_path / "two"), split="train")
    assert digest_of(copy.images, times=True) == digest_of(listing.images, times=True)
    assert stamps_of(copy.images) != stamps_of(listing.images)
