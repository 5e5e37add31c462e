"""FIFOs, sockets and devices in place of photographs: whoever opens them is told so at once, instead of waiting."""

import os
import signal
import socket

import pytest

from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.annotations.locate import ImageListing
from mlimagenet_data.cli import main
from mlimagenet_data.errors import ImageError
from mlimagenet_data.formats.sizes import with_sizes
from tests.support.annotated import random_rows, write_images, write_rows

KINDS = ["fifo", "socket", "device", "folder"]


@pytest.fixture(autouse=True)
def patience():
    """Fail instead of waiting for ever."""

    def fail(*_):
        raise AssertionError("waited for a file that is none")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=KINDS)
def replaced(request, tmp_path):
    """Return a dataset, its images, and the row whose photograph is replaced by something else."""
    rows = random_rows(4, seed=3)
    write_rows(tmp_path / "set", rows)
    write_images(tmp_path / "images", rows)
    path = tmp_path / "images" / "train" / rows[1]["file_name"]
    path.unlink()
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    elif request.param == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # a socket's path has at most 108 bytes
            server.bind(path.name)
            os.chdir(here)
    return tmp_path / "set", tmp_path / "images", rows[1]


def test_the_loader_raises_an_error_that_names_it(replaced):
    folder, images, row = replaced
    data = MultiLabelImageNet(images, annotations=folder)
    with pytest.raises(ImageError, match=f"{row['file_name']}: not a regular file") as caught:
        list(map(data.__getitem__, range(len(data))))
    assert caught.value.status == "unreadable"


def test_show_view_and_join_report_it(replaced, tmp_path, capsys):
    folder, images, row = replaced
    named = f"{row['file_name']}: not a regular file"
    out = str(tmp_path / "card.png")
    assert main(["show", str(folder), row["image_id"], "--images", str(images), "--out", out]) == 1
    assert named in capsys.readouterr().err
    assert main(["view", str(folder), "--images", str(images), "--out", str(tmp_path / "page.html")]) == 0
    assert named in capsys.readouterr().out
    assert main(["join", str(folder), str(images), "--sizes"]) == 1
    assert row["file_name"] in capsys.readouterr().out
    assert main(["audit", str(folder), "--images", str(images), "--sheet", str(tmp_path / "audit.png")]) in (0, 1)


def test_an_import_of_sizes_gives_it_a_status(replaced):
    import pyarrow as pa

    _, images, row = replaced
    table = pa.table({"image_id": [row["image_id"]], "file_name": [row["file_name"]]})
    found = with_sizes(table, ImageListing(images / "train")).to_pylist()[0]
    assert (found["status"], found["height"], found["width"]) == ("unreadable", None, None)
