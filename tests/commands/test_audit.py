import json

import numpy as np
import pytest

from mlimagenet_data.annotations.audit import audit
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.cli import main
from mlimagenet_data.commands import predicted
from mlimagenet_data.evaluate.predictions import Predictions, save_predictions
from tests.support.annotated import row, write_rows

FILES = [f"n01440764/n01440764_{k}.JPEG" for k in range(6)]


@pytest.fixture
def dataset(tmp_path):
    """Six images of class 0, the last of which is unreadable."""
    rows = [row(f"n01440764_{k}", (4, 4), [], label=0, labels=[(0, 0.9)]) for k in range(6)]
    rows[5] |= {"labels": [], "scores": [], "status": "unreadable"}
    return write_rows(tmp_path / "set", rows)


def logits_of(best):
    """Logits that favour these classes."""
    out = np.zeros((len(best), NUM_CLASSES), np.float32)
    out[np.arange(len(best)), best] = 12
    return out


def saved(path, best, files):
    save_predictions(path, Predictions(logits_of(best), "a network"), files)
    return path


def run(capsys, dataset, *more):
    assert main(["audit", str(dataset), "--json", *map(str, more)]) == 0
    return json.loads(capsys.readouterr().out)


def fails(capsys, dataset, *more):
    assert main(["audit", str(dataset), *map(str, more)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_predictions_are_joined_by_name_in_any_order(dataset, tmp_path, capsys):
    files = ["n01440764_3.JPEG", "n01440764_1_n01440764.jpg", FILES[0], FILES[5], "elsewhere.jpg"]
    path = saved(tmp_path / "p.safetensors", [7, 0, 0, 0, 0], files)
    found = run(capsys, dataset, "--predictions", path)
    assert found["findings"][0]["image_id"] == "n01440764/n01440764_3"
    assert (found["findings"][0]["verdict"], found["findings"][0]["best"]) == ("replaced", 7)
    assert (found["without_prediction"], found["unmatched_predictions"]) == (2, 2)
    assert sum(found["counts"].values()) == 3
    assert main(["audit", str(dataset), "--predictions", str(path)]) == 0
    out = capsys.readouterr().out
    assert "2 of 5 readable images have no prediction" in out
    assert "2 predictions are of images that the dataset lacks" in out


def test_a_file_without_names_has_a_row_for_each_readable_image(dataset, tmp_path, capsys):
    path = saved(tmp_path / "p.npy", [0, 0, 0, 0, 7], FILES[:5])
    assert run(capsys, dataset, "--predictions", path)["findings"][0]["row"] == 4
    path = saved(tmp_path / "all.npy", [0] * 6, FILES)
    assert "6 rows without file names, but split train has 5 readable images" in fails(
        capsys, dataset, "--predictions", path
    )


def test_the_activation_is_applied(dataset, tmp_path, capsys):
    path = saved(tmp_path / "p.safetensors", [0] * 5, FILES[:5])
    soft, sigmoid = (
        run(capsys, dataset, "--predictions", path, "--activation", name)["findings"][0]
        for name in ("softmax", "sigmoid")
    )
    assert soft["quality"] == pytest.approx(1 - 0.5 * 1000 / (999 + np.exp(12)), abs=1e-3)
    assert sigmoid["quality"] == pytest.approx((1 + 1 / (1 + np.exp(-12)) - 0.5) / 2)


def test_chunks_of_a_file_give_the_same_audit(dataset, tmp_path, monkeypatch):
    path, store = saved(tmp_path / "p.safetensors", [7, 0, 0, 8, 0], FILES[:5]), AnnotationStore(dataset, "train")
    whole = audit(store, predictions=predicted.open_predicted(path, store, "softmax").chunks)
    monkeypatch.setattr(predicted, "_CHUNK", 2)
    parts = audit(store, predictions=predicted.open_predicted(path, store, "softmax").chunks)
    assert parts.findings(store, 9) == whole.findings(store, 9)


def test_images_that_the_network_could_not_read_are_left_out(dataset, tmp_path, capsys):
    logits = logits_of([0] * 5)
    logits[1] = np.nan
    save_predictions(tmp_path / "p.npy", Predictions(logits, ""), FILES)
    found = run(capsys, dataset, "--predictions", tmp_path / "p.npy")
    assert (found["without_prediction"], len(found["findings"])) == (1, 4)


def test_classes_are_listed_worst_first(dataset, capsys):
    assert run(capsys, dataset)["classes"] == [
        {"label": 0, "images": 5, "suspected": 0, "wrong": pytest.approx(0.5), "instead": None, "instead_images": 0}
    ]
    assert main(["audit", str(dataset), "--by-class"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "     0.5 of 5     wrong,    0 suspected: tench"


def test_predictions_of_other_images_are_refused(dataset, tmp_path, capsys):
    path = saved(tmp_path / "p.safetensors", [0], ["n01443537/n01443537_1.JPEG"])
    error = fails(capsys, dataset, "--predictions", path)
    assert "names 'n01443537/n01443537_1.JPEG', the dataset has 'n01440764/n01440764_0.png'" in error


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("p.txt", lambda path: path.write_text("0"), "must end in .safetensors or .npy"),
        ("p.npy", lambda path: None, "cannot read predictions"),
        ("p.npy", lambda path: path.write_bytes(b"\x93NUMPY"), "cannot read predictions"),
        ("p.safetensors", lambda path: path.write_bytes(b"0" * 9), "cannot read predictions"),
        ("p.npy", lambda path: np.save(path, np.zeros((5, 10), np.float32)), r"float32 (5, 10); must be floats"),
        ("p.npy", lambda path: np.save(path, np.zeros((5, 1000), np.int64)), "int64 (5, 1000); must be floats"),
        ("p.safetensors", lambda path: saved(path, [0, 0], FILES[:1]), "1 file names for 2 rows"),
        ("p.safetensors", lambda path: saved(path, [0, 0], FILES[:1] * 2), "rows 0 and 1, 'n01440764/"),
    ],
)
def test_unfit_predictions_are_refused(dataset, tmp_path, capsys, name, write, message):
    write(tmp_path / name)
    error = fails(capsys, dataset, "--predictions", tmp_path / name)
    assert str(tmp_path / name) in error
    assert message in error


def test_a_value_that_is_not_finite_is_named(dataset, tmp_path, capsys):
    logits = logits_of([0] * 5)
    logits[2, 9] = np.inf
    save_predictions(tmp_path / "p.npy", Predictions(logits, ""), FILES)
    assert "inf in row 2, class 9" in fails(capsys, dataset, "--predictions", tmp_path / "p.npy")


def test_unfit_options_are_refused(dataset, capsys):
    assert "pass only one of them" in fails(capsys, dataset, "--by-class", "--verdict", "agrees")
    assert "--sheet a.png: needs --images" in fails(capsys, dataset, "--sheet", "a.png")
