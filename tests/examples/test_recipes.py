"""The options, targets and losses of examples/train.py, in this process and on generated images."""

import itertools
import os
from pathlib import Path

import networks
import numpy as np
import pytest
import recipe
import targets
import timm
import torch
import train
import trainer as training
import yaml
from PIL import Image

from mlimagenet_data.errors import OutputError
from mlimagenet_data.evaluate.networks import open_network
from mlimagenet_data.losses.heatmaps import Heatmaps
from tests.examples.test_train import SMALL, losses, write_colours
from tests.support.annotated import region, row, write_images, write_rows

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours"))


def trainer(root, out, *options):
    args = recipe.parse("", [str(root), *SMALL, "--out", str(out), *map(str, options)])
    return training.Trainer(args, 0, torch.device("cpu"))


def run(root, out, *options):
    trainer(root, out, *options).run()
    return torch.load(out / "checkpoint.pt", weights_only=True)


@pytest.mark.parametrize("dataset", ["imagenet", "coco", "voc2012"])
def test_missing_data_ends_the_script_with_a_one_line_error(tmp_path, monkeypatch, dataset):
    where = ("--annotations", str(tmp_path / "none")) if dataset == "imagenet" else ("--dataset", dataset)
    monkeypatch.setattr("sys.argv", ["train.py", str(tmp_path), *SMALL, *where])
    with pytest.raises(SystemExit) as ended:
        train.main()
    message = str(ended.value)
    assert str(tmp_path) in message
    assert "\n" not in message


def test_each_of_the_papers_networks_has_a_configuration():
    models = {yaml.safe_load(path.read_text()).get("model") for path in CONFIGS}
    vits = {f"deit3_{size}_patch16_224" for size in ("small", "base", "large")}
    assert models == {"resnet50", "resnet101", None, *vits}  # finetune_vit.yaml names no model


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_cite_their_source_and_set_the_whole_recipe(path):
    text = path.read_text()
    assert text.startswith("# ")
    assert "arXiv" in text
    wanted = {"loss", "augment", "image_size", "epochs", "batch_size", "optimizer", "lr", "warmup", "weight_decay"}
    assert wanted <= yaml.safe_load(text).keys()


def test_the_loss_falls_and_the_classes_are_learnt(root, tmp_path, capsys):
    run(root, tmp_path, "--model", "test_vit", "--epochs", 8, "--lr", 0.02, "--val-split", "val")
    text = capsys.readouterr().out
    assert losses(text)[-1] < 0.2 * losses(text)[0]
    assert float(text.splitlines()[-1].split("mAP ")[1].split(",")[0]) > 0.9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid_and_the_command_line_overrides_them(path):
    args = recipe.parse("", ["imagenet", "--config", str(path), "--lr", "0.5", "--epochs", "7"])
    assert (args.lr, args.epochs) == (0.5, 7)
    assert (args.loss, args.out) == ("bce", Path("runs/train"))
    assert isinstance(args.weight_decay, float)
    assert isinstance(args.batch_size, int)
    assert timm.is_model(args.model)


@pytest.mark.parametrize(("text", "message"), [
    ("learning_rate: 1", "unknown option 'learning_rate'"),
    ("lr: [1, 2]", "must be a single value"),
    ("epochs: many", "epochs must be of type int, not 'many'"),
    ("loss: focal", "one of bce, asl"),
    ("- lr", "must be a mapping"),
    ("lr: !!python/object:os.system x", "config"),
    ("config: other.yaml", "unknown option 'config'"),
])  # fmt: skip
def test_configuration_errors_name_the_file_and_the_fault(tmp_path, capsys, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit):
        recipe.parse("", ["imagenet", "--config", str(path)])
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error


@pytest.mark.parametrize(("options", "message"), [
    (["--dataset", "coco", "--loss", "em"], "--dataset coco"),
    (["--loss", "spatial", "--augment", "rand"], "RandAugment"),
    (["--loss", "an", "--mixup", "0.2"], "not an"),
    (["--loss", "byproducts"], "--byproducts DIR"),
    (["--loss", "softmax", "--targets", "soft"], "--targets and --original need"),
    (["--labels", "single", "--original", "always"], "--targets and --original need"),
    (["--dataset", "coco", "--targets", "hard"], "--targets and --original need"),
    (["--init", "a.pt", "--resume", "b.pt"], "one of them"),
])  # fmt: skip
def test_conflicting_options_are_refused(capsys, options, message):
    with pytest.raises(SystemExit):
        recipe.parse("", ["imagenet", *options])
    assert message in capsys.readouterr().err


def click_file(folder, image_id, x, y):
    path = folder / f"{image_id}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    click = f"<selectedRecord><x>{x}</x><y>{y}</y></selectedRecord>"
    path.write_text(f"<a><metadata><selected>True</selected>{click}</metadata></a>")


OPTIONS = {
    "softmax": ("--labels", "single"),
    "bce": ("--mixup", "0.2", "--cutmix", "1.0", "--labels", "image"),
    "asl": ("--augment", "rand", "--optimizer", "sgd"),
    "em": ("--optimizer", "lamb", "--clip-grad", "1"),
    "an": ("--augment", "three"),
}


@pytest.mark.parametrize("loss", recipe.LOSSES)
def test_every_loss_trains(root, tmp_path, loss, capsys):
    options = OPTIONS.get(loss, ())
    if loss == "byproducts":
        click_file(tmp_path / "clicks", "n01491361/image0", 0.5, 0.5)
        options = ("--byproducts", tmp_path / "clicks")
    state = run(root, tmp_path, "--loss", loss, "--epochs", 2, *options)
    assert all(value.isfinite().all() for value in state["model"].values())
    first, last = losses(capsys.readouterr().out)
    assert np.isfinite([first, last]).all()
    assert last < first


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """An image with class 5 in its left half and class 6 in its right half; its original label is 5."""
    root = tmp_path_factory.mktemp("halves")
    left = np.zeros((4, 4), bool)
    left[:, :2] = True
    rows = [row("image", (40, 80), [region(left, 5), region(~left, 6)], label=5)]
    write_images(root, rows)
    write_rows(root / "mlimagenet", rows)
    return root


@pytest.mark.parametrize(("labels", "loss", "present"), [
    ("crop", "bce", {6: 1.0}),
    ("crop", "softmax", {6: 1.0}),
    ("image", "bce", {5: 1.0, 6: 1.0}),
    ("image", "softmax", {5: 0.5, 6: 0.5}),
    ("single", "bce", {5: 1.0}),
    ("single", "softmax", {5: 1.0}),
])  # fmt: skip
def test_targets_come_from_the_crop_the_image_or_the_label(halves, labels, loss, present):
    args = recipe.parse("", [str(halves), "--labels", labels, "--loss", loss])
    _, found = targets.make_dataset(args, lambda image: image.crop((40, 0, 80, 40)), "train", train=True)[0]
    assert {k: float(found["target"][k]) for k in found["target"].nonzero().flatten().tolist()} == pytest.approx(
        present
    )


@pytest.mark.parametrize(("options", "present"), [
    (["--targets", "ignore", "--original", "as_others"], {5: -1.0, 6: 1.0}),
    (["--targets", "hard", "--original", "as_others"], {6: 1.0}),
    (["--targets", "soft", "--original", "as_others"], {6: 0.75}),
    (["--targets", "ignore"], {5: 1.0, 6: 1.0}),
    (["--targets", "soft"], {5: 0.75, 6: 0.75}),
    (["--targets", "soft", "--labels", "image"], {5: 0.75, 6: 0.75}),
    (["--targets", "soft", "--labels", "image", "--original", "always"], {5: 1.0, 6: 0.75}),
    (["--original", "always"], {5: 1.0, 6: 1.0}),
])  # fmt: skip
def test_targets_ignore_undecided_classes_or_are_hard_or_soft(tmp_path, options, present):
    """The crop shows a quarter of class 5, which is undecided, and all of class 6."""
    left = np.zeros((4, 4), bool)
    left[:, :2] = True
    regions = [region(left, 5, 0.75), region(~left, 6, 0.75)]
    rows = [row("image", (40, 80), regions, label=5, labels=[(5, 0.75), (6, 0.75)])]
    write_images(tmp_path, rows)
    write_rows(tmp_path / "mlimagenet", rows)
    args = recipe.parse("", [str(tmp_path), *options])
    _, found = targets.make_dataset(args, lambda image: image.crop((30, 0, 80, 40)), "train", train=True)[0]
    assert {k: float(found["target"][k]) for k in found["target"].nonzero().flatten().tolist()} == pytest.approx(
        present
    )


def test_each_loss_receives_the_inputs_it_needs(halves, tmp_path):
    click_file(tmp_path, "n01498041/image", 0.9, 0.5)  # another image
    image_id = (
        targets.make_dataset(recipe.parse("", [str(halves)]), None, "train", train=True).images.record(0).image_id
    )
    click_file(tmp_path, image_id, 0.75, 0.25)
    for options, wanted in (
        (("spatial",), {"target": 5, "row": 0, "edges": [0.0, 0.5, 1.0, 1.0]}),
        (("byproducts", "--byproducts", str(tmp_path)), {"edges": [0.0, 0.5, 1.0, 1.0], "point": [0.75, 0.25]}),
        (("consistency",), {"target": 5, "row": 0}),
        (("an",), {"target": 5}),
    ):
        args = recipe.parse("", [str(halves), "--loss", *options])
        _, found = targets.make_dataset(args, lambda image: image.crop((40, 0, 80, 40)), "train", train=True)[0]
        plain = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in found.items()}
        assert {name: plain.get(name) for name in wanted} == wanted
        assert plain.keys() <= wanted.keys() | {"target"}


@pytest.mark.parametrize("loss", ["bce", "spatial", "byproducts"])
def test_mlimagenet_eval_loads_checkpoints(root, tmp_path, loss):
    options = ("--byproducts", tmp_path) if loss == "byproducts" else ()
    trained = trainer(root, tmp_path, "--epochs", 1, "--steps", 1, "--loss", loss, *options)
    trained.run()
    network = open_network("test_efficientnet", tmp_path / "checkpoint.pt", 32)
    image = Image.new("RGB", (40, 40), (220, 30, 30))
    same = targets.make_transforms(32, "none", *networks.normalisation("test_efficientnet"))[1]
    torch.testing.assert_close(network.prepare(image), same(image), atol=1e-5, rtol=0)
    trained.model.eval()
    with torch.inference_mode():
        output = trained.model(same(image)[None])
        torch.testing.assert_close(
            network.module(same(image)[None]), output if loss == "bce" else output[0], atol=1e-4, rtol=0
        )


def test_a_resumed_run_ends_like_an_uninterrupted_one(root, tmp_path, monkeypatch):
    options = ("--epochs", 2, "--steps", 2, "--loss", "asl")
    whole = run(root, tmp_path / "whole", *options)
    stopped = tmp_path / "stopped"
    replace = os.replace

    def replace_and_stop(*paths):
        replace(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run(root, stopped, *options)
    monkeypatch.undo()
    assert torch.load(stopped / "checkpoint.pt", weights_only=True)["epoch"] == 0
    torch.rand(7)  # a new process would be in another random state
    resumed = run(root, stopped, *options, "--resume", stopped / "checkpoint.pt")
    assert resumed["epoch"] == whole["epoch"] == 1
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


def test_a_resumed_run_restores_the_memory_of_its_checkpoint(root, tmp_path, monkeypatch):
    options = ("--epochs", 3, "--loss", "spatial", "--steps", 2)
    whole = run(root, tmp_path / "whole", *options)
    assert [path.name for path in (tmp_path / "whole").glob("heatmaps-*")] == ["heatmaps-2.npy"]
    stopped = tmp_path / "stopped"
    count = itertools.count()

    def stop_in_the_last_epoch(*args):
        if next(count) == 5:
            raise KeyboardInterrupt
        return agree(*args)

    agree = training.Objective.agree
    monkeypatch.setattr(training.Objective, "agree", stop_in_the_last_epoch)
    with pytest.raises(KeyboardInterrupt):
        trainer(root, stopped, *options).run()
    monkeypatch.undo()
    resumed = run(root, stopped, *options, "--resume", stopped / "checkpoint.pt")
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name
    rows = torch.arange(16)
    memories = [Heatmaps(folder / "heatmaps.npy", 16).read(rows)[1] for folder in (tmp_path / "whole", stopped)]
    torch.testing.assert_close(*memories, rtol=0, atol=0, equal_nan=True)


def test_a_run_replaces_no_other_runs_checkpoint(root, tmp_path):
    for name in ("a", "b"):
        run(root, tmp_path / name, "--epochs", 1, "--steps", 1)
    before = (tmp_path / "a/checkpoint.pt").read_bytes()
    for options in ([], ["--resume", tmp_path / "b/checkpoint.pt"]):
        with pytest.raises(OutputError, match=r"checkpoint\.pt: already exists; continue that run with --resume"):
            run(root, tmp_path / "a", "--epochs", 2, "--steps", 1, *options)
    assert (tmp_path / "a/checkpoint.pt").read_bytes() == before
    run(root, tmp_path / "a", "--epochs", 2, "--steps", 1, "--resume", tmp_path / "a/checkpoint.pt")
    assert (tmp_path / "a/checkpoint.pt").read_bytes() != before


def test_only_copies_of_the_memory_are_tidied_up(root, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("heatmaps-backup.npy", "checkpoint.tmp", ".thesis.tmp"):
        (tmp_path / "run" / name).write_text("mine")
    run(root, tmp_path / "run", "--epochs", 2, "--steps", 1, "--loss", "consistency")
    assert {path.name for path in (tmp_path / "run").iterdir() if not path.read_bytes().startswith(b"mine")} == {
        "checkpoint.pt", "heatmaps.npy", "heatmaps-1.npy",
    }  # fmt: skip
    assert len(list((tmp_path / "run").iterdir())) == 6


def test_a_new_run_clears_the_memory_of_an_old_one(root, tmp_path):
    run(root, tmp_path, "--epochs", 1, "--steps", 1, "--loss", "consistency")
    (tmp_path / "checkpoint.pt").unlink()
    fresh = trainer(root, tmp_path, "--epochs", 1, "--loss", "consistency")
    assert (fresh.objective.memory.read(torch.arange(16))[0] == -1).all()


def test_fine_tuning_starts_from_a_runs_weights(root, tmp_path, capsys):
    run(root, tmp_path / "single", "--epochs", 1, "--labels", "single", "--loss", "softmax")
    tuned = trainer(root, tmp_path / "multi", "--init", tmp_path / "single" / "checkpoint.pt", "--epochs", 1)
    state = torch.load(tmp_path / "single" / "checkpoint.pt", weights_only=True)["model"]
    for name, value in tuned.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert "not loaded" not in capsys.readouterr().out
