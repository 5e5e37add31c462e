import os

import pytest

from mlimagenet_data.errors import OutputError
from mlimagenet_data.files.single import check_apart, check_new, write_new


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "images/train/a.jpg").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "images/train")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path / "images/train"


@pytest.mark.parametrize("out", [
    "images/train", "images", ".", "images/train/out", "images/train/deep/out", "link", "link/out", "images/../images/train/x",
    "images/train/a.jpg", "link/a.jpg",
])  # fmt: skip
def test_outputs_and_inputs_do_not_contain_one_another(images, tmp_path, out):
    with pytest.raises(OutputError, match=r"the output and the input .*images/train must not contain one another"):
        check_apart(tmp_path / out, [tmp_path.parent / "elsewhere", images])


def test_the_input_may_be_a_link(images, tmp_path):
    with pytest.raises(OutputError, match="must not contain one another"):
        check_apart(images, [tmp_path / "link"])
    with pytest.raises(OutputError, match="must not contain one another"):
        check_apart(images / "new", [tmp_path / "link"])


def test_relative_paths_are_resolved(images, monkeypatch):
    monkeypatch.chdir(images)
    for out in ("new", ".", "../../images"):
        with pytest.raises(OutputError, match="must not contain one another"):
            check_apart(type(images)(out), [images])
    check_apart(type(images)("../other"), [images])


@pytest.mark.parametrize("out", ["out", "images/out", "images/train-out", "loop", "loop/out"])
def test_neighbours_do_not_overlap(images, tmp_path, out):
    check_apart(tmp_path / out, [images, images.parent / "tra", tmp_path / "nowhere"])


def test_a_new_file_is_written(tmp_path):
    write_new(tmp_path / "new/a.json", lambda path: path.write_text("ours"))
    assert (tmp_path / "new/a.json").read_text() == "ours"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


@pytest.mark.parametrize("make", [
    lambda path: path.write_text("mine"), os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda path: path.mkdir(),
])  # fmt: skip
@pytest.mark.parametrize("mark", [b"", b"our mark"])
def test_what_exists_is_refused(tmp_path, make, mark):
    path = tmp_path / "a.json"
    make(path)
    before = os.lstat(path)
    for attempt in (check_new, lambda path, mark: write_new(path, lambda temporary: temporary.touch(), mark=mark)):
        with pytest.raises(OutputError, match=r"a\.json: (already exists; remove it|is a folder; name a file)"):
            attempt(path, mark=mark)
    assert os.lstat(path) == before


def test_an_earlier_file_of_ours_is_replaced(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 4000 + b"our mark")
    write_new(path, lambda temporary: temporary.write_text("new"), mark=b"our mark")
    assert path.read_text() == "new"
    path.write_bytes(b"x" * 4096 + b"our mark")
    with pytest.raises(OutputError, match="already exists"):
        write_new(path, lambda temporary: temporary.touch(), mark=b"our mark")


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.json"

    def fill(temporary):
        temporary.write_text("ours")
        path.write_text("mine")

    with pytest.raises(OutputError, match="already exists"):
        write_new(path, fill)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("a.json", "mine")]
