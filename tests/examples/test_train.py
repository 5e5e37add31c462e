"""The script as a whole, and what it shows; test_recipes.py tests its parts."""

import importlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from progress import Progress

from mlimagenet_data.losses.heatmaps import Heatmaps
from tests.support.annotated import region, row, write_rows

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "train.py"


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


SMALL = ("--model", "test_efficientnet", "--image-size", "32", "--batch-size", "8", "--workers", "0", "--lr", "0.003")


def losses(text):
    return [float(line.split("loss ")[1].split(",")[0]) for line in text.splitlines()]


TWO_PROCESSES = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[0]))
import torch.multiprocessing
import train
import trainer  # here once, rather than in each process

def start(rank):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    train.main()

torch.multiprocessing.start_processes(start, nprocs=2, start_method="fork")
"""


def test_two_processes_train_together(root, tmp_path):
    """The processes get what torchrun gives them: their ranks, and an address to meet at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    known = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    options = [str(root), *SMALL, "--out", str(tmp_path), "--epochs", "1", "--steps", "1", "--loss", "spatial"]
    code = TWO_PROCESSES.replace("sys.argv[0]", repr(str(SCRIPT)))
    done = subprocess.run(
        [sys.executable, "-c", code, *options], env=known, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(losses(done.stdout)) == 1
    assert done.stderr.count("16 images, epochs 1 to 1 of 1 steps") == 1
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"] == 0
    memory = Heatmaps(tmp_path / "heatmaps.npy", 16)
    assert int((memory.read(torch.arange(16))[0] >= 0).any(dim=1).sum()) == 16  # of both processes' images


@pytest.mark.parametrize(
    ("options", "shown"), [(["--help"], "--precision"), (["root", "--loss", "no"], "invalid choice")]
)
def test_options_are_read_before_pytorch_is_imported(options, shown):
    code = (
        f"import runpy, sys\nsys.argv = {['train.py', *options]!r}; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'timm', 'tqdm', 'mlimagenet_data'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout + done.stderr


def documented():
    """Return (script, arguments) of the commands in the docs."""
    pages = [ROOT / "docs/training.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages).replace("\\\n", " ")
    return [
        (name, shlex.split(rest)) for name, rest in re.findall(r"^python examples/(\w+)\.py (.*)$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize(("name", "arguments"), documented(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_commands_in_the_docs_are_valid(monkeypatch, capsys, name, arguments):
    monkeypatch.chdir(ROOT)
    started = []
    for module in ("trainer", "timm_loader"):
        monkeypatch.setattr(f"{module}.train", started.append)
    monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
    if arguments == ["--help"]:
        with pytest.raises(SystemExit, match="0"):
            importlib.import_module(name).main()
    else:
        importlib.import_module(name).main()
        assert len(started) == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_with_the_time_left(monkeypatch):
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    with Progress("epoch 1/2", 3) as progress:
        progress.bar.mininterval = 0
        progress.step("loss 0.5000")
    assert "epoch 1/2:   0%" in screen.getvalue()
    assert "1/3" in screen.getvalue()
    assert "loss 0.5000" in screen.getvalue()


def test_a_log_gets_a_line_a_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    with Progress("epoch 1/2", 200) as progress, Progress("hidden", 200, shown=False) as hidden:
        for _ in range(200):
            now[0] += 1
            progress.step("loss 0.5000")
            hidden.step()
    assert capsys.readouterr().err.splitlines() == [
        f"epoch 1/2: step {done}/200, loss 0.5000, {left} left"
        for done, left in ((5, "03:15"), (65, "02:15"), (125, "01:15"), (185, "00:15"))
    ]
