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


def test_two_processes_train_together(root, tmp_path):
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT))
    text, state = train(root, tmp_path, "--epochs", "1", "--steps", "1", "--loss", "spatial", command=command)
    assert len(losses(text)) == 1
    assert state["epoch"] == 0
    memory = Heatmaps(tmp_path / "heatmaps.npy", 16)
    assert int((memory.read(torch.arange(16))[0] >= 0).any(dim=1).sum()) == 16  # of both processes' images
