"""Single output files of commands: they replace nothing but earlier pictures of ours, and stay out of their inputs."""

import numpy as np
import pytest
from PIL import Image

from mlimagenet_data.cli import main
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.single import PICTURE_MARK, PICTURE_METADATA
from tests.support.annotated import random_rows, write_images, write_rows

# command, whether an earlier picture of ours may be replaced
COMMANDS = {
    "export coco": ("export {set} {out} --to coco", False),
    "export tsv": ("export {set} {out} --to tsv", False),
    "export csv": ("export {set} {out} --to csv", False),
    "stats": ("stats {set} --plot {out}", True),
    "show": ("show {set} {id} --images {images} --out {out}", True),
    "audit": ("audit {set} --images {images} --sheet {out}", True),
    "compare": ("compare {set} annotations:{other} --bootstrap 0 --out {out}", False),
    "compare plot": ("compare {set} annotations:{other} --bootstrap 0 --plot {out}", True),
    "eval": ("eval --data annotations:{images} --labels {set} --predictions {predictions} --out {out}", False),
    "eval plot": ("eval --data annotations:{images} --labels {set} --predictions {predictions} --plot {out}", True),
    "eval save": (
        "eval --data annotations:{images} --labels {set} --predictions {predictions} --save-predictions {out}",
        False,
    ),
}
QUICK = [name for name in COMMANDS if "plot" not in COMMANDS[name][0]]


@pytest.fixture
def words(tmp_path):
    rows = random_rows(4, seed=3)
    np.save(tmp_path / "p.npy", np.random.default_rng(0).normal(size=(4, 1000)).astype(np.float32))
    return {
        "set": write_rows(tmp_path / "set", rows), "other": write_rows(tmp_path / "other", rows),
        "images": write_images(tmp_path / "images", rows) / "train", "id": rows[0]["image_id"],
        "predictions": tmp_path / "p.npy",
    }  # fmt: skip


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(name, words, out):
    return main([word.format(**words, out=out) for word in COMMANDS[name][0].split()])


def name_of(command):
    return "out.npy" if command == "eval save" else "out.png"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_replaces_only_an_earlier_picture_of_ours(words, tmp_path, capsys, command):
    out = tmp_path / name_of(command)
    assert run(command, words, out) == 0
    before, is_picture = out.read_bytes(), COMMANDS[command][1]
    assert (PICTURE_MARK in before[:4096]) == is_picture
    assert run(command, words, out) == (0 if is_picture else 1)
    assert ("already exists; remove it, or choose another name" in capsys.readouterr().err) == (not is_picture)
    assert out.read_bytes() == before
    if is_picture:
        with Image.open(out) as picture:
            assert picture.info["Software"] == PICTURE_METADATA["Software"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_foreign_file_is_kept(words, tmp_path, capsys, command):
    out = tmp_path / name_of(command)
    Image.new("RGB", (3, 5)).save(out, "PNG")
    before = contents(tmp_path)
    assert run(command, words, out) == 1
    assert "already exists" in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["set/{}", "set/data/{}", "set/data/train-00000-of-00001.parquet", "link/{}"])
@pytest.mark.parametrize("command", QUICK)
def test_an_output_stays_out_of_the_inputs(words, tmp_path, capsys, command, place):
    (tmp_path / "link").symlink_to(tmp_path / "set")
    before = contents(tmp_path)
    if command == "eval save" and "parquet" in place:
        pytest.skip("another suffix is refused")
    assert run(command, words, tmp_path / place.format(name_of(command))) == 1
    assert "must not contain one another" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_two_outputs_have_two_names(words, tmp_path, capsys):
    command = ["compare", str(words["set"]), f"annotations:{words['other']}", "--bootstrap", "0"]
    out = tmp_path / "out.png"
    assert main([*command, "--out", str(out), "--plot", f"{tmp_path}/set/../out.png"]) == 1
    assert "named for two outputs" in capsys.readouterr().err
    assert not out.exists()


def test_an_output_is_refused_before_the_work(words, tmp_path, capsys, monkeypatch):
    def work(*arguments, **options):
        raise AssertionError("work began")

    monkeypatch.setattr("mlimagenet_data.annotations.store.AnnotationStore.__init__", work)
    monkeypatch.setattr("mlimagenet_data.annotations.statistics.collect", work)
    for command in ("export coco", "stats", "show", "audit"):
        out = tmp_path / name_of(command)
        write_json(out, {"mine": 1})
        assert run(command, words, out) == 1
        assert "already exists" in capsys.readouterr().err
