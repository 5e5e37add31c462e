"""`mlimagenet build`, `mlimagenet --version` and `python -m mlimagenet_data`, as processes."""

import os
import subprocess
import sys

import pytest

from mlimagenet_data import __version__
from mlimagenet_data.commands import build
from mlimagenet_data.errors import MLImageNetError
from tests.conftest import ROOT


def run(*arguments, cwd):
    command = [sys.executable, "-m", "mlimagenet_data", *arguments]
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=known, capture_output=True, text=True, check=False)


def test_the_version_names_what_a_report_needs_without_torch(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(f"mlimagenet-data {__version__}, Python 3.")
    assert ", torch 2." in done.stdout


def test_the_build_runs_from_any_folder_and_returns_its_exit_code(tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "run.py").write_text("raise SystemExit('another build')\n")
    done = run("build", "nowhere", "--out", "new", cwd=tmp_path)
    assert done.returncode == 1
    assert "images: nowhere: no such folder, .tar file or .parquet file" in done.stdout
    assert not (tmp_path / "new").exists()
    assert "usage: python -m build.run" in run("build", "--help", cwd=tmp_path).stdout
    assert "no build was started there" in run("build", "status", "new", cwd=tmp_path).stdout


def test_without_a_checkout_the_error_says_where_the_build_is(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_checkout", lambda: None)
    with pytest.raises(MLImageNetError, match=r"get a checkout of the repository, run pip install -e '\.\[build\]'"):
        build.run_build(["photos"])


def test_lost_output_is_an_error(demo):
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "mlimagenet_data", "info", str(demo)]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1
