import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlimagenet_data.losses.heatmaps import Heatmaps
from tests.annotated import region, row, write_rows

SCRIPT = Path(__file__).parent.parent / "examples" / "train.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours"))


def write_colours(root):
    """Red images of class 3 and blue ones of class 7, each all over the image."""
    rows = []
    for k in range(16):
        label, colour = ((3, (220, 30, 30)), (7, (30, 30, 220)))[k % 2]
        rows.append(row(f"image{k}", (40, 40), [region(np.ones((4, 4), bool), label)], label=label))
        path = root / "train" / rows[-1]["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), colour).save(path)
    write_rows(root / "mlimagenet", rows)
    write_rows(root / "mlimagenet", rows, split="val")
    (root / "val").symlink_to(root / "train")
    return root


SMALL = ("--model", "resnet10t", "--image-size", "32", "--batch-size", "8", "--workers", "0", "--lr", "0.003")


def train(root, out, *options, command=(sys.executable, str(SCRIPT))):
    arguments = [*command, str(root), *SMALL, "--out", str(out), *options]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout, torch.load(out / "checkpoint.pt", weights_only=True)


def losses(text):
    return [float(line.split("loss ")[1].split(",")[0]) for line in text.splitlines()]


def test_the_loss_falls_and_the_classes_are_learnt(root, tmp_path):
    text, _ = train(root, tmp_path, "--epochs", "8", "--val-split", "val")
    assert losses(text)[-1] < 0.2 * losses(text)[0]
    assert float(text.splitlines()[-1].split("mAP ")[1].split(",")[0]) > 0.9


def test_what_is_missing_is_said_in_one_line(tmp_path):
    for options in ([], ["--dataset", "coco"], ["--dataset", "voc2012"]):
        command = [
            sys.executable,
            str(SCRIPT),
            str(tmp_path),
            *SMALL,
            "--annotations",
            str(tmp_path / "none"),
            *options,
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert str(tmp_path) in result.stderr


STOP_AFTER_A_CHECKPOINT = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
replace = os.replace
def stop(*paths):
    replace(*paths)
    raise KeyboardInterrupt
os.replace = stop
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(root, tmp_path):
    options = ("--epochs", "2", "--steps", "2", "--loss", "asl")
    _, whole = train(root, tmp_path / "whole", *options)
    stopped = tmp_path / "stopped"
    arguments = [
        sys.executable,
        "-c",
        STOP_AFTER_A_CHECKPOINT,
        str(SCRIPT),
        str(root),
        *SMALL,
        "--out",
        str(stopped),
        *options,
    ]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in result.stderr
    assert torch.load(stopped / "checkpoint.pt", weights_only=True)["epoch"] == 0
    _, resumed = train(root, stopped, *options, "--resume", str(stopped / "checkpoint.pt"))
    assert resumed["epoch"] == whole["epoch"] == 1
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


def test_two_processes_train_together(root, tmp_path):
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT))
    text, state = train(root, tmp_path, "--epochs", "1", "--steps", "1", "--loss", "spatial", command=command)
    assert len(losses(text)) == 1
    assert state["epoch"] == 0
    memory = Heatmaps(tmp_path / "heatmaps.npy", 16)
    assert int((memory.read(torch.arange(16))[0] >= 0).any(dim=1).sum()) == 16  # of both processes' images
