"""What the command `python -m build.run` says and keeps, seen from the outside."""

import shutil
import subprocess
import sys
from contextlib import ExitStack

import datasets
import pytest
import torch

from build import api
from build.config.options import BuildConfig, ConfigError
from build.networks.backbone import Maps
from build.networks.forward import pick_device
from build.run import main
from build.state.last_run import kept_settings
from build.state.lock import sole_run
from mlimagenet_data import MultiLabelImageNet, with_labels
from mlimagenet_data.cli import main as mlimagenet
from tests.conftest import ROOT
from tests.support.containers import picture, write_tar


@pytest.fixture
def built(demo, tmp_path):
    """A copy of the demo's dataset, which a run has nothing to do for."""
    return shutil.copytree(demo, tmp_path / "mlimagenet")


def test_help_needs_no_torch():
    code = (
        "import sys, contextlib\nfrom build.run import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Exit codes: 0 if every image has a row" in done.stdout


def test_a_run_must_say_what_to_build(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert main(["--label-threshold", "0.3"]) == 1
    assert capsys.readouterr().out.count("pass --images SOURCE for a new build") == 2
    assert not list(tmp_path.iterdir())


def test_a_build_keeps_its_settings_until_they_are_changed(built, capsys):
    out = ["--out", str(built)]
    assert main([*out, "--label-threshold", "0.3", "--top-k", "4"]) == 0
    assert "settings kept" not in capsys.readouterr().out
    assert main(out) == 0
    said = capsys.readouterr().out
    assert (
        "settings kept from the last run: label_threshold 0.3 (default: 0.13), top_k 4 (default: 5); to change" in said
    )
    assert "labels: nothing to do" in said
    assert main(["status", str(built)]) == 0
    assert "labels   1 of 1 units done\n" in capsys.readouterr().out
    assert kept_settings(BuildConfig(out=str(built)), {"label_threshold"}) == {"top_k": 4}
    assert main([*out, "--label-threshold", "0.13", "--top-k", "5"]) == 0
    assert "labels: 1 of 1 units to do" in capsys.readouterr().out
    assert kept_settings(BuildConfig(out=str(built)), set()) == {}
    assert kept_settings(BuildConfig(out=str(built / "elsewhere")), set()) == {}


def test_settings_of_running_are_not_kept(built, capsys):
    assert main(["--out", str(built), "--batch-size", "3", "--workers", "1"]) == 0
    assert kept_settings(BuildConfig(out=str(built)), set()) == {}


@pytest.mark.parametrize("verbose", [False, True])
def test_the_summary_says_what_took_how_long_and_what_to_do_next(built, capsys, verbose):
    assert main(["--out", str(built), *(["--verbose"] if verbose else [])]) == 0
    said = capsys.readouterr().out
    assert "regions" in said
    assert "done before" in said
    assert ("slowest part" in said) == verbose
    assert f"mlimagenet view {built} --images " in said
    assert f"annotations={str(built)!r})" in said


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path, photographs):
    (tmp_path / "empty").mkdir()
    (tmp_path / "classes" / "cats").mkdir(parents=True)
    shutil.copy(next(photographs.rglob("*.jpg")), tmp_path / "classes" / "cats")
    (tmp_path / "there").mkdir()
    for images in ("empty", "classes", "nowhere"):
        for out in ("new", "there"):
            assert main(["--images", str(tmp_path / images), "--out", str(tmp_path / out)]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes", "empty", "there"]
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("other_run", [False, True])
def test_a_run_that_cannot_begin_removes_nothing_of_others(tmp_path, monkeypatch, other_run):
    out = tmp_path / "out"
    out.mkdir()
    with ExitStack() as stack:

        def fail(config, output):  # while it lists images, others get to work
            (out / "mine.txt").write_text("x")
            if other_run:
                stack.enter_context(sole_run(out / ".build" / "train", (0, 2)))
            raise ConfigError("images: gone")

        monkeypatch.setattr(api, "_relabel", fail)
        assert main(["--images", str(tmp_path / "nowhere"), "--out", str(out)]) == 1
        assert (out / ".build" / "train" / "locks" / "part-0-of-2.json").exists() == other_run
        assert (out / ".mlimagenet.json").exists() == other_run
    assert (out / "mine.txt").exists()


def test_the_card_of_unlabelled_photographs_does_not_speak_of_imagenets(tmp_path, photographs):
    options = ["--image-size", "128", "--scan-size", "0", "--limit", "1"]
    assert main(["--images", str(photographs), "--unlabelled", "--out", str(tmp_path / "out"), *options]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "\n# Multi-label annotations\n\nEach row" in card
    assert "which keep their own terms" in card
    assert "pretty_name: Multi-label annotations" in card
    assert "- imagenet\n" not in card


def test_an_apple_gpu_must_be_there_and_gives_its_maps_to_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no Apple GPU; pass --device auto or cpu"):
        pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps").type == "mps"
    maps = Maps(torch.ones(1), (torch.ones(2), torch.ones(3)), (torch.ones(4),))
    moved = maps.to(torch.device("meta"))
    assert {moved.patches.device.type, *(m.device.type for m in (*moved.features, *moved.label_maps))} == {"meta"}


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_the_lines_printed_last_work_as_they_stand(tmp_path, monkeypatch, capsys, form):
    monkeypatch.chdir(tmp_path)
    names = [f"n01440764/n01440764_{k}.png" for k in range(2)]
    if form == "folder":
        for k, name in enumerate(names):
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / name).write_bytes(picture(k))
    elif form == "tar":
        write_tar(tmp_path / "images" / "a.tar", [(name, picture(k)) for k, name in enumerate(names)])
    else:
        features = datasets.Features({"image": datasets.Image()})
        rows = {"image": [{"bytes": picture(k), "path": name} for k, name in enumerate(names)]}
        (tmp_path / "images").mkdir()
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "images" / "a.parquet")
    assert main(["--images", "images", "--out", "labels", "--image-size", "64", "--scan-size", "0"]) == 0
    said = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines() if " it: " in line)
    command, *words = said["look at it"].partition("    (")[0].split()
    assert command == "mlimagenet"
    assert mlimagenet(words) == 0
    assert (tmp_path / "labels-viewer").exists()
    context = {"MultiLabelImageNet": MultiLabelImageNet, "with_labels": with_labels, "transform": None}
    if form == "parquet":
        context["images"] = datasets.load_dataset("parquet", data_files="images/a.parquet", split="train")
    if form != "tar":
        images = eval(said["train on it"].partition(";")[0].strip(), context)
        assert len(images) == 2
        assert images[0][1].shape == (1000,)
