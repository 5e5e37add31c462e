"""The script as torchrun starts it; test_recipes.py tests its parts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlimagenet_data.losses.heatmaps import Heatmaps
from tests.support.annotated import region, row, write_rows

SCRIPT = Path(__file__).parents[2] / "examples" / "train.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours"))


def write_colours(root):
    """Write red images of class 3 and blue images of class 7, each with one region that covers the image."""
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


def losses(text):
    return [float(line.split("loss ")[1].split(",")[0]) for line in text.splitlines()]


def test_two_processes_train_together(root, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    options = [str(root), *SMALL, "--out", str(tmp_path), "--epochs", "1", "--steps", "1", "--loss", "spatial"]
    done = subprocess.run([*torchrun, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(losses(done.stdout)) == 1
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"] == 0
    memory = Heatmaps(tmp_path / "heatmaps.npy", 16)
    assert int((memory.read(torch.arange(16))[0] >= 0).any(dim=1).sum()) == 16  # of both processes' images
