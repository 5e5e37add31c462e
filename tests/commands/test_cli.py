import json
import subprocess
import sys

import pytest
from PIL import Image

from mlimagenet_data.cli import main
from tests.support.annotated import random_rows, write_images, write_rows


@pytest.fixture
def annotated(tmp_path):
    rows = random_rows(12, seed=3)
    return write_rows(tmp_path / "set", rows), write_images(tmp_path / "images", rows) / "train"


def test_stats_are_printed_and_drawn(annotated, tmp_path, capsys):
    assert main(["stats", str(annotated[0]), "--plot", str(tmp_path / "plot.png")]) == 0
    assert "images              12, of which 12 readable" in capsys.readouterr().out
    assert (tmp_path / "plot.png").exists()
    assert main(["stats", str(annotated[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 12


def test_an_audit_lists_and_draws_the_worst(annotated, tmp_path, capsys):
    command = ["audit", str(annotated[0]), "--top", "3"]
    assert main([*command, "--images", str(annotated[1].parent), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert capsys.readouterr().out.count("original ") >= 3
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1600, 648)
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["findings"]) == 3
    assert sum(found["counts"].values()) == 12
    assert main([*command, "--json", "--verdict", "agrees", "--of", "labels"]) == 0
    assert {f["verdict"] for f in json.loads(capsys.readouterr().out)["findings"]} <= {"agrees"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "nowhere"], "nowhere: no such folder"),
        (["stats", "{set}", "--split", "val"], "no annotations for split 'val'"),
        (["audit", "{set}", "--verdict", "wrong"], "must be one of agrees"),
    ],
)
def test_errors_are_one_line_and_name_the_cause(annotated, capsys, arguments, message):
    assert main([a.format(set=annotated[0]) for a in arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_help_does_not_import_torch():
    code = (
        "import sys, contextlib\nfrom mlimagenet_data.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\nassert 'torch' not in sys.modules"
    )
    assert "audit" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
