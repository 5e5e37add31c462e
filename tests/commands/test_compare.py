import json

import pytest
from PIL import Image

from mlimagenet_data.cli import main
from tests.evaluate.compare.test_report import boxes_truth
from tests.evaluate.test_truth import mask_folder, picture, thing
from tests.support.annotated import random_rows, row, write_rows

QUICK = ["--bootstrap", "50", "--crops", "2"]


@pytest.fixture
def paths(tmp_path):
    rows = random_rows(20, seed=4)
    boxes_truth(tmp_path / "truth.json", rows)
    return str(write_rows(tmp_path / "set", rows)), f"boxes:{tmp_path / 'truth.json'}"


def test_figures_stand_beside_the_single_labels(paths, capsys):
    assert main(["compare", *paths, *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{paths[0]} against {paths[1]}: 19 images"
    assert lines[1] == f"{paths[0]} lacks 1 of them; they count as images without labels and regions, and get no crops"
    assert lines[2] == "in brackets: 95% intervals, 50 bootstrap draws over images"
    heads = [line.split() for line in lines if "dataset" in line.split()]
    assert heads[0] == ["labels", "dataset", "single", "label", "difference"]
    assert [head[0] for head in heads] == ["labels", "scores", "regions", "random"]
    (f1,) = (line for line in lines if line.startswith("F1  "))
    assert f1.count("[") == 3
    assert not any("nan" in line for line in lines)


def test_json_file_and_plot(paths, tmp_path, capsys):
    files = ["--out", str(tmp_path / "found.json"), "--plot", str(tmp_path / "plot.png")]
    assert main(["compare", *paths, *QUICK, "--json", *files]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "found.json").read_text())
    assert len(printed["groups"]["labels"]["f1"]["difference"]) == 3
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size == (1320, 600)


def test_another_dataset_is_compared(paths, tmp_path, capsys):
    other = str(write_rows(tmp_path / "other", random_rows(20, seed=4)[:10]))
    assert main(["compare", *paths, *QUICK, "--against", other]) == 0
    out = capsys.readouterr().out
    assert f"{other} lacks 9 of them" in out
    assert next(line for line in out.splitlines() if line.startswith("F1  ")).count("[") == 5
    assert next(line for line in out.splitlines() if line.startswith("CorLoc ")).count("[") == 3


def test_without_draws_and_crops_there_are_only_figures(paths, capsys):
    assert main(["compare", *paths, "--bootstrap", "0", "--crops", "0"]) == 0
    out = capsys.readouterr().out
    assert "[" not in out
    assert "random crops" not in out


def test_labels_without_any_score_are_drawn(paths, tmp_path):
    rows = [{**item, "labels": [], "scores": []} for item in random_rows(20, seed=4)]
    empty = str(write_rows(tmp_path / "empty", rows))
    assert main(["compare", empty, paths[1], *QUICK, "--plot", str(tmp_path / "plot.png")]) == 0


@pytest.mark.parametrize(
    ("truth", "arguments", "message"),
    [
        ("cats", [], "TRUTH cats: must be KIND:PATH"),
        ("cats:dogs", [], "must be KIND:PATH, where KIND is one of real, "),
        ("real:", [], "must be KIND:PATH"),
        ("multilabel:val", [], "needs --labels"),
        ("boxes:nowhere.json", [], "nowhere.json: no such file"),
        ("masks:nowhere", [], "coco_to_imagenet.json: no such file"),
        ("boxes:x", ["--labels", "y"], "--labels y: only for real"),
        ("boxes:x", ["--class-list", "y"], "--class-list y: only for real"),
        ("boxes:x", ["--out", "nowhere/a.json"], "must be a file in an existing folder"),
    ],
)
def test_errors_name_the_argument(paths, capsys, truth, arguments, message):
    assert main(["compare", paths[0], truth, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_a_plot_needs_label_sets(tmp_path, capsys):
    (tmp_path / "truth").mkdir()
    mask_folder(tmp_path / "truth", picture(thing(), image_id="a"))
    item = row("a", (4, 2), [], labels=[(10, 0.9)]) | {"image_id": "a", "file_name": "a.png", "label": None}
    command = ["compare", str(write_rows(tmp_path / "set", [item])), f"masks:{tmp_path / 'truth'}", *QUICK]
    assert main([*command, "--plot", str(tmp_path / "plot.png")]) == 1
    assert "needs a truth with label sets" in capsys.readouterr().err
    assert main(command) == 0
    assert "whole image" in capsys.readouterr().out
