import os
from collections import Counter

import pytest

from mlimagenet_data.files.walk import walk_files


def names(root, left_out=None):
    return sorted(name for name, _ in walk_files(root, left_out))


def test_levels_of_links_do_not_multiply_paths(tmp_path):
    for level in range(17):
        (tmp_path / f"d{level}").mkdir()
        if level:
            for link in ("a", "b"):
                (tmp_path / f"d{level - 1}" / link).symlink_to(f"../d{level}")
    (tmp_path / "d16" / "x.jpg").write_bytes(b"x")
    left_out = Counter()
    assert names(tmp_path, left_out) == ["d16/x.jpg"]
    assert left_out == {"links to folders that are listed already": 32}


def test_levels_of_links_alone_give_one_path_each(tmp_path):
    store = tmp_path / "store"
    for level in range(17):
        (store / f"d{level}").mkdir(parents=True)
        if level:
            for link in ("a", "b"):
                (store / f"d{level - 1}" / link).symlink_to(f"../d{level}")
    (store / "d16" / "x.jpg").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "in").symlink_to("../store/d0")
    assert names(tmp_path / "root") == ["in/" + "a/" * 16 + "x.jpg"]


@pytest.mark.parametrize("order", [("a", "z"), ("z", "a")])
def test_a_folder_wins_over_links_and_the_first_link_over_later_ones(tmp_path, order):
    real, link = order
    (tmp_path / "root" / real).mkdir(parents=True)
    (tmp_path / "root" / real / "x.jpg").write_bytes(b"x")
    (tmp_path / "root" / link).symlink_to(real)
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "y.jpg").write_bytes(b"y")
    for name in ("n", "m"):
        (tmp_path / "root" / name).symlink_to("../elsewhere")
    (tmp_path / "root" / "o").symlink_to("../elsewhere/deep")
    left_out = Counter()
    assert names(tmp_path / "root", left_out) == sorted(["m/deep/y.jpg", f"{real}/x.jpg"])
    assert left_out == {"links to folders that are listed already": 3}


def test_special_files_hidden_folders_and_odd_names_are_counted(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.jpg").write_bytes(b"x")
    for name in (b"b\xff.jpg", b"a\xfe.jpg"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    left_out = Counter()
    assert names(tmp_path, left_out) == [".hidden.jpg", "broken.jpg", "loop.jpg"]
    assert left_out == {
        "FIFOs, sockets and devices": 2,
        "hidden folders": 1,
        r"names that are not UTF-8, such as 'a\udcfe.jpg'": 2,
    }
    assert names(tmp_path) == [".hidden.jpg", "broken.jpg", "loop.jpg"]


def test_folders_beyond_the_systems_longest_path_are_counted(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "a.jpg").write_bytes(b"x")
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    left_out = Counter()
    assert names(tmp_path, left_out) == ["a.jpg"]
    assert left_out == {"folders whose path is too long for the system": 1}


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    scan = os.scandir

    def denied(path):
        if os.fspath(path).endswith("a"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    (tmp_path / "b.jpg").write_bytes(b"x")
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError):
        names(tmp_path)
    left_out = Counter()
    assert [name for name, _ in walk_files(tmp_path, left_out, may_skip=lambda folder: folder == "a")] == ["b.jpg"]
    assert left_out == {"folders that may not be read, such as 'a'": 1}


def test_what_macos_writes_beside_files_is_counted_and_skipped(tmp_path):
    for name in ("a.jpg", "._a.jpg", "__MACOSX/a.jpg", "b/._DS", "b/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    left_out = Counter()
    assert sorted(name for name, _ in walk_files(tmp_path, left_out)) == ["a.jpg", "b/c.jpg"]
    assert left_out == {"macOS metadata (._* and __MACOSX)": 3}
