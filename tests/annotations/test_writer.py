"""Imports into a dataset folder that others also use, or that earlier imports left half done."""

import json
import os
import signal
from pathlib import Path

import pytest
from datasets import load_dataset

from mlimagenet_data.annotations.verify import faults_of
from mlimagenet_data.annotations.writer import DatasetWriter
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError, OutputError
from mlimagenet_data.files.outputs import LOCK, MARKER
from mlimagenet_data.files.reading import file_hash
from mlimagenet_data.formats.importing import Import, import_annotations
from tests.faults.harness import KillAt
from tests.support.children import CONTEXT


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"n01440764_{k}.JPEG\t0\t0,391\t0.9,0.25\n" for k in range(5)))
    return path


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != LOCK
    }


def nothing(count):
    pass


def run(table, out, split="train", setup=None, advance=nothing):
    if setup is not None:
        setup()
    return import_annotations(Import(table, "tsv", out, split=split), advance)


def child_of(table, out, split="train", setup=None, advance=nothing):
    child = CONTEXT.Process(target=run, args=(table, out, split, setup, advance))
    child.start()
    return child


def die(count):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "name", ["README.md", "build_manifest.json", "data/train-00000-of-00001.parquet", "notes/.thesis.tmp"]
)
def test_a_folder_of_other_files_is_left_alone(table, tmp_path, name):
    path = tmp_path / "set" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"splits": {}}')
    with pytest.raises(OutputError, match="which this project did not write"):
        run(table, tmp_path / "set")
    assert contents(tmp_path / "set") == {name: b'{"splits": {}}'}


@pytest.mark.parametrize(
    "name", ["data/val-00000-of-00001.parquet", "data/val-more.parquet", "data/val-00001-of-00002.parquet"]
)
def test_a_foreign_shard_of_the_split_is_refused_and_kept(table, tmp_path, name):
    run(table, tmp_path / "set")
    (tmp_path / "set" / name).write_text("mine")
    before = contents(tmp_path / "set")
    with pytest.raises(
        OutputError, match=rf"{Path(name).name}: exists, and this project did not write it; move it away"
    ):
        run(table, tmp_path / "set", "val")
    assert contents(tmp_path / "set") == before
    run(table, tmp_path / "set", "test")
    assert contents(tmp_path / "set")[name] == b"mine"


def test_other_files_in_the_folder_survive_every_import(table, tmp_path):
    mine = {
        "notes/.thesis.tmp": b"1",
        ".README.md.tmp": b"2",
        "data/.thesis.parquet.1-01234567.tmp": b"3",
        "data/notes": b"4",
    }
    run(table, tmp_path / "set")
    for name, content in mine.items():
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    child = child_of(table, tmp_path / "set", "val", KillAt(20))
    child.join()
    assert child.exitcode == -signal.SIGKILL
    for split in ("val", "test"):
        run(table, tmp_path / "set", split)
    assert mine.items() <= contents(tmp_path / "set").items()
    assert set(load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))) == {"train", "val", "test"}


@pytest.mark.parametrize("out", [".", "images", "images/train", "images/train/set", "link", "a.tsv", "link/set"])
def test_an_import_stays_out_of_its_inputs(table, tmp_path, capsys, out):
    (tmp_path / "images/train/n01440764").mkdir(parents=True)
    (tmp_path / "images/train/n01440764/a.JPEG").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "images/train")
    before = contents(tmp_path)
    command = [
        "import",
        str(table),
        "--from",
        "tsv",
        "--out",
        str(tmp_path / out),
        "--images",
        str(tmp_path / "images"),
    ]
    assert main(command) == 1
    assert "must not contain one another" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_damaged_manifest_or_marker_is_refused(table, tmp_path):
    run(table, tmp_path / "set")
    for name, content, words in (
        ("build_manifest.json", "{", "not a build manifest"),
        ("build_manifest.json", '{"splits": {"x": {"imported": {}}}}', "split 'x', which is not an import"),
        (MARKER, "", "damaged"),
    ):
        path = tmp_path / "set" / name
        kept = path.read_text()
        path.write_text(content)
        with pytest.raises((AnnotationError, ValueError), match=words):
            run(table, tmp_path / "set", "val")
        path.write_text(kept)
    run(table, tmp_path / "set", "val")


def test_the_manifest_names_what_is_published_and_no_folder(table, tmp_path):
    table.write_text(f"bad\n{table.read_text()}")
    import_annotations(Import(table, "tsv", tmp_path / "set", skip_bad=True))
    text = (tmp_path / "set/build_manifest.json").read_text()
    card = tmp_path / "set/README.md"
    assert json.loads(text)["files"] == {"README.md": {"sha256": file_hash(card), "bytes": card.stat().st_size}}
    assert json.loads(text)["splits"]["train"]["imported"]["faults"][0].startswith("a.tsv: line 1")
    assert str(tmp_path) not in text
    (shard,) = (tmp_path / "set/data").iterdir()
    assert list(faults_of([shard], "train")) == []


def test_two_splits_imported_at_once_are_both_there(table, tmp_path):
    for split in ("a", "b", "c"):
        run(table, tmp_path / "one by one", split)
    for number in range(2):
        out = tmp_path / f"at once {number}"
        children = [child_of(table, out, split) for split in ("a", "b", "c")]
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0, 0]
        assert contents(out) == contents(tmp_path / "one by one")


def test_a_split_is_imported_by_one_process_at_a_time(table, tmp_path):
    with DatasetWriter(tmp_path / "set", "train", [table]) as writer:
        child = child_of(table, tmp_path / "set")
        child.join()
        assert child.exitcode == 1
        run(table, tmp_path / "set", "val")
        writer.finish({"by": "hand"}, licence="unknown", creators="found", note="")
    splits = json.loads((tmp_path / "set/build_manifest.json").read_text())["splits"]
    assert {name: split["rows"] for name, split in splits.items()} == {"train": 0, "val": 5}
    with pytest.raises(AnnotationError, match="already holds split 'train'"):
        run(table, tmp_path / "set")


def again(table, out):
    """Run a killed import again, unless it had just ended."""
    manifest = out / "build_manifest.json"
    if manifest.exists() and "train" in json.loads(manifest.read_text())["splits"]:
        with pytest.raises(AnnotationError, match="already holds split 'train'"):
            run(table, out)
        return True
    run(table, out)
    return False


@pytest.mark.slow
def test_an_import_killed_at_any_step_can_be_run_again(table, tmp_path):
    run(table, tmp_path / "undisturbed")
    expected, step, ended = contents(tmp_path / "undisturbed"), 1, 0
    while True:
        out = tmp_path / f"set{step}"
        child = child_of(table, out, setup=KillAt(step))
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        if again(table, out):
            ended += 1
            run(table, out, "val")  # removes what the killed one left
            assert not list(out.glob(".run-*"))
            assert set(load_dataset(str(out), cache_dir=str(tmp_path / "cache"))) == {"train", "val"}
        else:
            assert contents(out) == expected, step
        step += 3
    assert step > 30
    assert ended < 6


def test_an_import_killed_while_it_reads_can_be_run_again(table, tmp_path):
    run(table, tmp_path / "undisturbed")
    child = child_of(table, tmp_path / "set", advance=die)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    run(table, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")
