import os

import pytest

from mlimagenet_data.files.inside import OutsideError, resolve_inside


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/b.png").write_text("b")
    (tmp_path / "images-more").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "images/link").symlink_to(tmp_path / "secret")
    (tmp_path / "images/up").symlink_to("..")
    (tmp_path / "images/near").symlink_to("a/b.png")
    (tmp_path / "images/loop").symlink_to("loop")
    return tmp_path / "images"


def test_names_and_links_that_stay_inside_are_resolved(folder):
    real = os.path.realpath(folder)
    assert str(resolve_inside(folder, "a/b.png")) == f"{real}/a/b.png"
    assert str(resolve_inside(folder, "near")) == f"{real}/a/b.png"
    assert str(resolve_inside(folder, "missing.png")) == f"{real}/missing.png"
    folder.with_name("alias").symlink_to(folder)
    assert str(resolve_inside(folder.with_name("alias"), "a/b.png")) == f"{real}/a/b.png"


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "link", "up/secret", "a/../../secret", "", ".", "a/..", "../images-more/x", "a\0b"],
)
def test_names_and_links_that_leave_are_refused(folder, name):
    with pytest.raises(OutsideError, match=r"leads to|not a path"):
        resolve_inside(folder, name)


def test_a_link_to_itself_does_not_leave(folder):
    assert resolve_inside(folder, "loop").name == "loop"
