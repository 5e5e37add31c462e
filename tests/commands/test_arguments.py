"""Arguments are checked where they are given, and a command with nothing to work on says so and fails."""

import shlex

import numpy as np
import pytest

from mlimagenet_data.annotations.locate import open_copy
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.cli import main
from mlimagenet_data.errors import ImageError
from mlimagenet_data.evaluate.predictions import Predictions, save_predictions
from tests.support.annotated import random_rows, row, write_images, write_rows

NUMBERS = {  # option: (command, values out of its range, the rule)
    "audit --top": ("audit x", ["-1", "two"], "a whole number from 0 on"),
    "join --top": ("join x y", ["-1"], "a whole number from 0 on"),
    "labels --top": ("labels x --class tench", ["-3", "1.5"], "a whole number from 0 on"),
    "labels --min-score": ("labels x --class tench", ["7", "-0.1", "nan", "much"], "a number between 0 and 1"),
    "stats --pairs": ("stats x", ["-1"], "a whole number from 0 on"),
    "verify --top": ("verify x", ["0", "-1"], "a whole number from 1 on"),
    "view --limit": ("view x --out y.html", ["-1"], "a whole number from 0 on"),
    "view --thumbnail-size": ("view x --out y.html", ["15", "4097"], "a whole number from 16 to 4096"),
    "export --shard-images": ("export x y --to coco", ["0"], "a whole number from 1 on"),
    "compare --min-score": ("compare x real:y", ["2"], "a number between 0 and 1"),
    "compare --crops": ("compare x real:y", ["-1", "10001"], "a whole number from 0 to 10000"),
    "compare --bootstrap": ("compare x real:y", ["-1"], "a whole number from 0 to 1000000"),
    "compare --seed": ("compare x real:y", ["-1", str(2**63)], "a whole number from 0 to 9223372036854775807"),
    "eval --min-score": ("eval --data real:x --model y", ["1.01"], "a number between 0 and 1"),
    "eval --threshold": ("eval --data real:x --model y", ["3", "inf"], "a number between 0 and 1"),
    "eval --image-size": ("eval --data real:x --model y", ["0"], "a whole number from 1 on"),
    "eval --batch-size": ("eval --data real:x --model y", ["0"], "a whole number from 1 on"),
    "eval --workers": ("eval --data real:x --model y", ["-1"], "a whole number from 0 on"),
    "eval --top-k": ("eval --data real:x --model y", ["0", "51"], "a whole number from 1 to 50"),
}


@pytest.mark.parametrize("option", NUMBERS)
def test_a_number_out_of_range_is_refused_with_the_range(capsys, option):
    command, values, rule = NUMBERS[option]
    name = option.partition(" ")[2]
    for value in values:
        with pytest.raises(SystemExit, match="2"):
            main([*command.split(), name, value])
        assert f"argument {name}: {value}: must be {rule}\n" in capsys.readouterr().err


@pytest.fixture
def words(tmp_path):
    rows = random_rows(6, seed=3)
    write_images(tmp_path / "images", rows)
    write_images(tmp_path / "foreign", [row("other", (4, 4), [])])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    files = [item["file_name"] for item in rows]
    logits = np.random.default_rng(0).normal(size=(6, 1000)).astype(np.float32)
    save_predictions(tmp_path / "p.safetensors", Predictions(logits, ""), files)
    sets = {
        "good": rows,
        "unlabelled": [item | {"label": None, "labels": [], "scores": []} for item in rows],
        "unreadable": [item | {"status": "unreadable", "height": None, "width": None} for item in rows],
        "no_rows": [],
    }
    return {name: write_rows(tmp_path / name, rows) for name, rows in sets.items()} | {
        "images": tmp_path / "images", "out": tmp_path / "out", "predictions": tmp_path / "p.safetensors",
        "id": rows[0]["image_id"],
    }  # fmt: skip


def run(capsys, words, command, **more):
    code = main([word.format(**words | more) for word in shlex.split(command)])
    said = capsys.readouterr()
    return code, said.out, said.err


WITH_IMAGES = {
    "join": "join {good} {copy}",
    "view": "view {good} --images {copy} --out {out}.html",
    "audit": "audit {good} --images {copy} --sheet {out}.png",
    "show": "show {good} {id} --images {copy} --out {out}.png",
    "webdataset": "export {good} {out} --to webdataset --images {copy} --missing skip",
    "eval": "eval --data annotations:{copy} --labels {good} --predictions {predictions} --min-score 0",
    "materialize": "materialize {copy} {out} --annotations {good} --missing skip",
}


@pytest.mark.parametrize("command", WITH_IMAGES)
@pytest.mark.filterwarnings("ignore:.*image files looked at have no annotations")
def test_a_copy_is_its_root_or_its_split_and_holds_annotated_images(words, tmp_path, capsys, command):
    given = WITH_IMAGES[command]
    for k, copy in enumerate((tmp_path / "images", tmp_path / "images" / "train")):
        code, _, error = run(capsys, words, given, copy=copy, out=tmp_path / f"out{k}")
        assert (code, error) == (0, "")
    for name in ("nowhere", "file", "empty", "foreign"):
        code, out, error = run(capsys, words, given, copy=tmp_path / name)
        assert (code, out if command != "show" else "") == (1, "")
        assert name in error
        assert error.count("\n") == 1
        assert not [path for path in tmp_path.glob("out/*") if path.name[0] != "."]


def test_a_copy_of_few_of_the_images_is_one(tmp_path):
    rows = [row(f"image{k}", (4, 4), []) for k in range(3000)]
    store = AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    write_images(tmp_path / "images", rows[1:2])  # not among the rows looked for
    assert open_copy(tmp_path / "images", store).folder == str(tmp_path / "images" / "train")
    (tmp_path / "images" / "train" / rows[1]["file_name"]).rename(tmp_path / "images" / "train" / "n01440764" / "z.png")
    with pytest.raises(
        ImageError, match=r"none of 1000 annotated .*; it holds n01440764/z.png, which has no annotations"
    ):
        open_copy(tmp_path / "images", store)


NOTHING = {  # command: what it says of unlabelled images, None if it has something to do
    "labels {set} --class tench": "no image of split train has a label to search for",
    "labels {set} --pairs-with tench": "no image of split train has a label to search for",
    "stats {set}": None,
    "audit {set}": "none of 6 images of split train has an original label to judge; try --of labels",
    "audit {set} --of labels": "none of 6 images of split train has a label to judge; try --of original",
    "join {set} {images}": None,
    "view {set} --images {images} --out {out}.html": None,
    "export {set} {out} --to coco": None,
    "export {set} {out} --to tsv": "no image of split train has an original label",
    "export {set} {out} --to csv": "no image of split train has a label",
    "export {set} {out} --to webdataset --images {images}": None,
    "materialize {images} {out} --annotations {set}": "no image of split train has a label; nothing to train on",
    "compare {good} annotations:{set} --bootstrap 0": "no image was judged",
    "compare {set} annotations:{good} --bootstrap 0": None,
    "eval --data annotations:{images} --labels {set} --predictions {predictions}": "no image to evaluate (6 images: no label",
}


@pytest.mark.parametrize("command", NOTHING)
@pytest.mark.filterwarnings("ignore:.*image files looked at have no annotations")
def test_a_command_with_nothing_to_work_on_fails_and_says_why(words, capsys, command):
    code, out, error = run(capsys, words, command, set=words["unlabelled"])
    if NOTHING[command]:
        assert (code, out, error.count("\n")) == (1, "", 1)
        assert NOTHING[command] in error
    else:
        assert code == 0
        assert out
    for name in ("unreadable", "no_rows"):
        code, out, error = run(capsys, words, command, set=words[name], out=f"{words['out']}-{name}")
        assert (code, out, error.count("\n")) == (1, "", 1)
        assert str(words[name]) in error or str(words["images"]) in error


def test_a_dataset_is_named_by_its_folder(words, capsys):
    for given, why in (
        ("{images}", "it has no folder data/, as datasets do"),
        ("{good}/data/train-00000-of-00001.parquet", "not a folder; name the dataset's folder, which holds data/"),
        ("{good} --split tra*", "no annotations for split 'tra*'; available splits: train"),
        ("{good} --split ../data/train", "available splits: train"),
    ):
        code, _, error = run(capsys, words, f"info {given}")
        assert code == 1
        assert why in error


def test_options_that_would_be_ignored_are_refused(words, capsys):
    for more, why in (
        ("folder:{images} --labels {good} --predictions {predictions}", "whose labels are in its folder"),
        ("folder:{images} --predictions {predictions} --amp", "--amp: only with --model"),
        ("folder:{images} --predictions {predictions} --image-size 9", "--image-size: only with --model"),
    ):
        code, _, error = run(capsys, words, f"eval --data {more}")
        assert code == 1
        assert why in error


@pytest.mark.parametrize(
    "command",
    [
        "stats {good} --plot {out}",
        "compare {good} annotations:{good} --plot {out}",
        "eval --data folder:{images} --predictions {predictions} --plot {out}",
    ],
)
def test_a_plot_without_matplotlib_is_refused_before_the_work(words, capsys, monkeypatch, command):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "--plot needs matplotlib: pip install" in run(capsys, words, command)[2]


LONG = {  # command: the last line of its progress
    "stats {good}": "stats: 6 (rows)",
    "audit {good}": "audit: 6 of 6, 0 min left (images)",
    "labels {good} --class tench": "labels: 6 of 6, 0 min left (rows)",
    "join {good} {images} --sizes": "join: 12 of 12, 0 min left (files)",
    "verify {good}": "verify: 6 (rows)",
    "export {good} {out} --to coco": "coco: 6 of 6, 0 min left (images)",
    "export {good} {out} --to tsv --shard-images 2": "tsv: 6 of 6, 0 min left (images)",
    "export {good} {out} --to csv": "csv: 6 of 6, 0 min left (images)",
    "export {good} {out} --to webdataset --images {images}": "webdataset: 6 of 6, 0 min left (images)",
    "view {good} --out {out}.html": "images: 6 of 6, 0 min left (images)",
    "show {good} {id}": "opening: 6 (rows)",
    "compare {good} annotations:{other} --bootstrap 9": "compare: 10 of 10, 0 min left (steps)",
    "eval --data annotations:{images} --labels {good} --predictions {predictions} --min-score 0": "labels: 6 of 6, 0 min",
}


@pytest.mark.parametrize("command", LONG)
def test_what_takes_long_shows_progress(words, tmp_path, capsys, monkeypatch, command):
    """A log gets a line every half minute; here at every step."""
    other = write_rows(tmp_path / "other", random_rows(6, seed=3))
    monkeypatch.setattr("mlimagenet_data.commands.common._BETWEEN", 0.0)
    code, _, error = run(capsys, words, command, other=other)
    assert code == command.startswith("verify")  # there is no manifest
    assert LONG[command] in error
    if not command.startswith(("stats", "verify")):
        assert "opening: 6 (rows)" in error
