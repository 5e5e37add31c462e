import os
import stat

import pytest

from mlimagenet_data.errors import OutputError
from mlimagenet_data.files.private import is_private, private_folder


def folder_of(named):
    return private_folder(named, lambda name: name.startswith("ours"), "choose another")


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_folder_is_private_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        assert folder_of(tmp_path / "a/b") == tmp_path / "a/b"
    finally:
        os.umask(before)
    assert mode(tmp_path / "a/b") == 0o700
    assert is_private(tmp_path / "a/b")


@pytest.mark.parametrize("bits", [0o755, 0o770, 0o777, 0o1777])
def test_an_open_folder_is_closed_only_if_all_in_it_is_ours(tmp_path, bits):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/ours1").mkdir()
    (tmp_path / "a").chmod(bits)
    assert folder_of(tmp_path / "a") == tmp_path / "a"
    assert mode(tmp_path / "a") == 0o700
    (tmp_path / "a/thesis.tex").write_text("")
    (tmp_path / "a").chmod(bits)
    inner = folder_of(tmp_path / "a")
    assert inner == tmp_path / "a" / f"user-{os.geteuid()}"
    assert (mode(inner), mode(tmp_path / "a")) == (0o700, bits)
    assert folder_of(tmp_path / "a") == inner
    inner.chmod(0o777)
    assert folder_of(tmp_path / "a") == inner
    assert mode(inner) == 0o700


def test_a_private_folder_may_hold_anything(tmp_path):
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a/notes").write_text("")
    assert folder_of(tmp_path / "a") == tmp_path / "a"


def test_the_named_folder_may_be_a_link_and_the_inner_one_not(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert folder_of(tmp_path / "link") == tmp_path / "real"
    assert not is_private(tmp_path / "link")
    (tmp_path / "real/notes").write_text("")
    (tmp_path / "real").chmod(0o755)
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "real" / f"user-{os.geteuid()}").symlink_to(tmp_path / "target")
    with pytest.raises(OutputError, match=r"is no folder of this user alone.*; choose another"):
        folder_of(tmp_path / "link")


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match=r"a: cannot hold a private folder: .*; choose another"):
        folder_of(tmp_path / "a")
    assert not is_private(tmp_path / "a")
    assert not is_private(tmp_path / "nothing")
