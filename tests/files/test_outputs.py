import json
import os
import signal
import threading
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlimagenet_data.errors import OutputError, StateError
from mlimagenet_data.files.atomic import write_atomic
from mlimagenet_data.files.outputs import LOCK, MARKER, OutputFolder, first_foreign
from tests.support.children import CONTEXT


def contents(folder):
    """Return the bytes of all files below a folder, without locks and markers."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in (LOCK, MARKER))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def text(content):
    return lambda path: path.write_text(content)


@pytest.fixture
def out(tmp_path):
    return OutputFolder.open(tmp_path / "out", "import")


def test_a_new_or_empty_folder_becomes_ours(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    for name in ("new", "new/below", "empty", "disk"):
        assert OutputFolder.open(tmp_path / name, "import").names() == set()
        marker = json.loads((tmp_path / name / MARKER).read_text())
        assert marker == {"kind": "import", "files": []}
        OutputFolder.open(tmp_path / name, "import")


@pytest.mark.parametrize("name", ["README.md", "data/train-00000-of-00001.parquet", ".hidden", "notes/.thesis.tmp"])
def test_a_folder_with_anything_else_is_refused(tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match="which this project did not write; choose a new or empty folder"):
        OutputFolder.open(tmp_path / "out", "import")
    assert contents(tmp_path) == {f"out/{name}": b"mine"}
    assert not (tmp_path / "out" / MARKER).exists()


@pytest.mark.parametrize("make", [
    lambda path: path.write_text("mine"), os.mkfifo, lambda path: path.symlink_to("nowhere"),
])  # fmt: skip
def test_what_is_not_a_folder_is_refused(tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(OutputError, match="is not a folder"):
        OutputFolder.open(tmp_path / "out", "import")


def test_another_kind_of_output_is_refused(out):
    out.write("README.md", text("ours"))
    with pytest.raises(OutputError, match="holds an import, not a page; choose another output folder"):
        OutputFolder.open(out.path, "page")
    assert contents(out.path) == {"README.md": b"ours"}


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"{}", b'{"kind": 5, "files": []}', b'{"kind": "import"}', b'{"kind": "import", "files": [["a"]]}',
    b"[" * 100_000,
])  # fmt: skip
def test_a_damaged_marker_is_refused_by_name(out, content):
    out.write("README.md", text("ours"))
    (out.path / MARKER).write_bytes(content)
    with pytest.raises(StateError, match=rf"{MARKER}: damaged: .* Choose a new output folder"):
        OutputFolder.open(out.path, "import")
    with pytest.raises(StateError, match=MARKER):
        out.write("README.md", text("new"))
    assert contents(out.path) == {"README.md": b"ours"}


def test_only_files_of_ours_are_replaced_and_removed(out):
    out.write("README.md", text("ours"))
    out.write("data/a.parquet", text("ours"))
    (out.path / "data/b.parquet").write_text("mine")
    for name in ("data/b.parquet", "data"):
        with pytest.raises(OutputError, match=rf"{name}: exists, and this project did not write it; move it away"):
            out.write(name, text("new"))
    with pytest.raises(OutputError, match=r"data/b\.parquet: exists"):
        out.write_json("data/b.parquet", {})
    out.write("README.md", text("new"))
    out.remove(["data/a.parquet", "data/b.parquet", "data/gone.parquet"])
    assert contents(out.path) == {"README.md": b"new", "data/b.parquet": b"mine"}
    assert out.names() == {"README.md"}


def test_a_name_enters_the_marker_before_its_file_appears(out):
    seen = []
    out.write("README.md", lambda path: (seen.append(out.names()), path.write_text("ours")))
    assert seen == [{"README.md"}]


@pytest.mark.parametrize("link", ["data", "deep/data"])
def test_a_link_does_not_lead_out_of_the_folder(out, tmp_path, link):
    out.write(f"{link}/a.parquet", text("ours"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.parquet").write_text("mine")
    (out.path / link / "a.parquet").unlink()
    (out.path / link).rmdir()
    (out.path / link).symlink_to(tmp_path / "mine")
    for change in (lambda: out.write(f"{link}/a.parquet", text("new")), lambda: out.remove([f"{link}/a.parquet"])):
        with pytest.raises(OutputError, match="a link leads out of the output folder"):
            change()
    assert contents(tmp_path / "mine") == {"a.parquet": b"mine"}


def test_names_of_a_planted_marker_do_not_lead_out_of_the_folder(out, tmp_path):
    (tmp_path / "mine").write_text("mine")
    names = ["../mine", str(tmp_path / "mine")]
    (out.path / MARKER).write_text(json.dumps({"kind": "import", "files": names}))
    for name in names:
        with pytest.raises(OutputError, match="leads out of the output folder"):
            out.remove([name])
        with pytest.raises(OutputError, match="leads out of the output folder"):
            out.write(name, text("new"))
    assert (tmp_path / "mine").read_text() == "mine"


def test_only_temporary_files_of_ours_are_swept(out):
    for name in ("README.md", "data/a.parquet"):
        out.write(name, text("ours"))
    left = [".README.md.12-0123abcd.tmp", "data/.a.parquet.7-01234567.tmp"]
    kept = [
        ".README.md.tmp", ".README.md.mine.tmp", ".thesis.md.12-0123abcd.tmp", "data/.README.md.12-0123abcd.tmp",
        "notes/.thesis.tmp", "notes/.README.md.12-0123abcd.tmp", "data/.a.parquet.7-01234567.tmp.old",
    ]  # fmt: skip
    for name in (*left, *kept):
        (out.path / name).parent.mkdir(exist_ok=True)
        (out.path / name).write_text("mine")
    out.sweep(["README.md"])
    assert not (out.path / left[0]).exists()
    assert (out.path / left[1]).exists()
    out.sweep(out.names())
    assert contents(out.path).keys() == {*kept, "README.md", "data/a.parquet"}


def test_files_are_installed_together_or_not_at_all(out, tmp_path):
    out.write("data/train-1.tar", text("ours"))
    (out.path / "data/train-3.tar").write_text("mine")
    sources = {f"data/train-{k}.tar": tmp_path / f"{k}" for k in (0, 3)}
    for path in sources.values():
        path.write_text("new")
    with pytest.raises(OutputError, match=r"train-3\.tar: exists"):
        out.install(sources, replaces=["data/train-1.tar"])
    assert contents(out.path) == {"data/train-1.tar": b"ours", "data/train-3.tar": b"mine"}
    (out.path / "data/train-3.tar").unlink()
    out.install(sources, replaces=["data/train-1.tar", "data/train-3.tar"])
    assert contents(out.path) == {"data/train-0.tar": b"new", "data/train-3.tar": b"new"}
    assert out.names() == {"data/train-0.tar", "data/train-3.tar"}


def test_one_run_at_a_time_has_a_name(out):
    with out.sole_run("train") as folder:
        (folder / "rows").write_text("temporary")
        refused = []

        def other():
            with pytest.raises(OutputError, match="another run is at work here"), out.sole_run("train"):
                pass
            with OutputFolder.open(out.path, "import").sole_run("val") as another:
                refused.append(another)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert refused
        assert (folder / "rows").read_text() == "temporary"
    assert contents(out.path) == {}
    assert out.names() == set()
    assert not folder.exists()


def test_a_run_that_fails_leaves_nothing(out):
    def fail():
        with out.sole_run("../x") as folder:
            (folder / "below").mkdir()
            (folder / "below" / "rows").touch()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert {path.name for path in out.path.iterdir()} == {MARKER, LOCK}


def test_a_foreign_folder_of_that_name_is_refused(out):
    (out.path / ".run-train").mkdir()
    (out.path / ".run-train/thesis").write_text("mine")
    with pytest.raises(OutputError, match=r"\.run-train: exists"), out.sole_run("train"):
        pass
    assert contents(out.path) == {".run-train/thesis": b"mine"}


def killed_run(path):
    out = OutputFolder.open(path, "import")
    with out.sole_run("train") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "rows").write_text("temporary")
        write_atomic(out.path / "README.md", lambda temporary: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.parametrize("planted", [".run-x/../../mine", ".run-link", ".run-/../mine", "../mine", ".run-link/thesis"])
def test_a_planted_marker_does_not_choose_what_is_removed(out, tmp_path, planted):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("mine")
    (out.path / ".run-link").symlink_to(tmp_path / "mine")
    (out.path / MARKER).write_text(json.dumps({"kind": "import", "files": [planted]}))
    for name in ("link", "train"):
        with suppress(OutputError), out.sole_run(name):
            pass
    assert contents(tmp_path / "mine") == {"thesis": b"mine"}


@pytest.mark.parametrize("name", ["train", "val"])
def test_what_a_killed_run_left_is_removed_by_the_next(out, name):
    child = CONTEXT.Process(target=killed_run, args=(out.path,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert (out.path / ".run-train/below/rows").exists()
    with out.sole_run(name) as folder:
        assert [path.name for path in folder.iterdir()] == ["lock"]
        assert [path.name for path in out.path.glob(".run-*")] == [folder.name]
    assert {path.name for path in out.path.iterdir()} == {MARKER, LOCK}


def test_a_folder_whose_marking_was_killed_is_still_empty(tmp_path):
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / f".{MARKER}.12-0123abcd.tmp"
    for path in (left, tmp_path / "out" / LOCK):
        path.touch()
    OutputFolder.open(tmp_path / "out", "import")
    assert not left.exists()


def test_a_folder_is_replaced_as_a_whole(out, tmp_path):
    def fill(folder):
        (folder / "below").mkdir()
        (folder / "below/a").write_text("new")

    out.write("README.md", text("ours"))
    out.replace_all(fill)
    assert contents(out.path) == {"below/a": b"new"}
    assert OutputFolder.open(out.path, "import").names() == {"below/a"}
    (tmp_path / "link").symlink_to(out.path)
    OutputFolder.open(tmp_path / "link", "import").replace_all(fill)
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_folder_with_a_foreign_file_is_not_replaced(out, when):
    out.write("README.md", text("ours"))

    def add():
        (out.path / "notes").mkdir()
        (out.path / "notes/thesis").write_text("mine")

    if when == "before":
        add()
    with pytest.raises(OutputError, match=r"notes/thesis: this project did not write it"):
        out.replace_all(lambda folder: add() if when == "meanwhile" else None)
    assert contents(out.path) == {"README.md": b"ours", "notes/thesis": b"mine"}


def test_the_first_foreign_file_is_found(tmp_path):
    for name in ("a/b", "a/c", "d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "e").symlink_to(tmp_path / "a")
    assert first_foreign(tmp_path, ["a/b", "a/c", "d", "e"]) is None
    assert first_foreign(tmp_path, ["a/b", "a/c", "d"]) == "e"
    assert first_foreign(tmp_path, ["a/b", "d", "e"]) == "a/c"
    assert first_foreign(tmp_path / "nowhere", []) is None


NAMES = st.sampled_from(["a", "b", "d/a", "d/b"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["write", "remove", "install", "foreign", "delete"]), NAMES), max_size=12))
def test_files_that_are_not_ours_survive_everything(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("out")
    out, mine, ours = OutputFolder.open(folder / "out", "import"), {}, {}
    for number, (step, name) in enumerate(steps):
        path = out.path / name
        if step == "foreign":
            if name not in out.names():
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"mine {number}")
                mine[name] = f"mine {number}".encode()
        elif step == "delete":
            path.unlink(missing_ok=True)
            mine.pop(name, None)
            ours.pop(name, None)
        elif step == "remove":
            out.remove([name])
            ours.pop(name, None)
        else:
            (folder / "source").write_text(f"ours {number}")
            try:
                if step == "write":
                    out.write(name, text(f"ours {number}"))
                else:
                    out.install({name: folder / "source"}, replaces=["a", "b"])
                    ours = {kept: content for kept, content in ours.items() if kept not in ("a", "b")}
                ours[name] = f"ours {number}".encode()
            except OutputError:
                assert name in mine
        assert contents(out.path) == {**mine, **ours}
        assert ours.keys() <= out.names()
        assert not mine.keys() & out.names()
