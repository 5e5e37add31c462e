import errno
import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlimagenet_data.errors import AnnotationError, StateError
from mlimagenet_data.files.reading import (
    NotRegularError,
    file_hash,
    is_transient,
    open_regular,
    parse_json,
    read_json,
    read_manifest,
    read_regular,
)


@pytest.fixture
def odd(tmp_path):
    """Return paths of things that are not regular files, by their name in the error."""
    os.mkfifo(tmp_path / "fifo.jpg")
    os.symlink("fifo.jpg", tmp_path / "link.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.symlink("/dev/zero", tmp_path / "device.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path has at most 108 bytes
        server.bind("socket.jpg")
        os.chdir(here)
        yield {
            "a FIFO": tmp_path / "fifo.jpg", "a socket": tmp_path / "socket.jpg", "a device": tmp_path / "device.jpg",
            "a folder": tmp_path / "folder.jpg",
        }  # fmt: skip


def test_only_regular_files_are_opened_and_nothing_waits(odd, tmp_path):
    start, before = time.monotonic(), len(os.listdir("/proc/self/fd"))
    for kind, path in [*odd.items(), ("a FIFO", tmp_path / "link.jpg")]:
        for call in (open_regular, file_hash, lambda path: read_regular(path, 9)):
            with pytest.raises(NotRegularError, match=rf"{path.name}: not a regular file \({kind}\)"):
                call(path)
    assert time.monotonic() - start < 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_becomes_a_fifo_before_it_is_opened_is_refused_too(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"photograph")
    regular = os.stat(tmp_path / "b.jpg")
    monkeypatch.setattr(os, "stat", lambda _: regular)
    with pytest.raises(NotRegularError, match="FIFO"):
        open_regular(tmp_path / "a.jpg")


def test_a_file_is_read_whole_or_refused(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(ValueError, match=r"a\.bin: 5 bytes; must have at most 4"):
        read_regular(path, 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 5)
    os.truncate(path, 1 << 40)  # sparse
    with pytest.raises(ValueError, match="1099511627776 bytes"):
        read_regular(path, 1 << 30)


def test_a_file_that_shrinks_while_it_is_read_is_a_transient_fault(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "b.bin").write_bytes(b"12345678")
    longer = os.stat(tmp_path / "b.bin")
    monkeypatch.setattr(os, "fstat", lambda _: longer)
    with pytest.raises(OSError, match="only 5 of 8 bytes") as caught:
        read_regular(tmp_path / "a.bin", 100)
    assert is_transient(caught.value)


def test_faults_of_the_system_are_transient_and_those_of_content_are_not():
    for number in (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENOMEM):
        assert is_transient(OSError(number, os.strerror(number)))
    for number in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR):
        assert not is_transient(OSError(number, os.strerror(number)))
    assert not is_transient(OSError("broken data stream when reading image file"))
    assert not is_transient(NotRegularError("a.jpg: not a regular file"))


DAMAGED = {
    b"": "the file is empty",
    b"\xff": "not UTF-8",
    b"{": "not JSON",
    b"[1]": "must be a JSON object, not a list",
    b"null": "must be a JSON object",
    b"[" * 100_000: "not JSON",
    b'{"a": ' + b"9" * 5000 + b"}": "not JSON",
    b"\0" * 40: "not JSON",
}


@pytest.mark.parametrize(("content", "words"), DAMAGED.items())
def test_damaged_state_is_refused_with_its_path_and_the_way_out(tmp_path, content, words):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match=words) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: damaged: ")
    assert str(caught.value).endswith("; delete it and run the same command again")
    (tmp_path / "build_manifest.json").write_bytes(content)
    with pytest.raises(AnnotationError, match=words):
        read_manifest(tmp_path)


def test_state_is_read_from_regular_files_of_a_bounded_size(odd, tmp_path):
    assert read_json(tmp_path / "none.json") is None
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    with pytest.raises(StateError, match="8 bytes; must have at most 7"):
        read_json(tmp_path / "a.json", 7)
    for path in odd.values():
        with pytest.raises(StateError, match="damaged: not a regular file"):
            read_json(path)


@pytest.mark.parametrize("text", ["{}", '{"splits": []}', '{"splits": {"train": 1}}', '{"splits": null}'])
def test_a_manifest_without_splits_is_refused(tmp_path, text):
    (tmp_path / "build_manifest.json").write_text(text)
    with pytest.raises(AnnotationError, match="splits: must be an object of objects"):
        read_manifest(tmp_path)


@given(st.binary(max_size=60))
def test_every_text_is_json_or_a_value_error(content):
    try:
        parse_json(content)
    except ValueError as error:
        assert str(error)  # noqa: PT017
