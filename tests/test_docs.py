"""The tutorials' examples, run one after the other as a reader would, on the demo's build; and the site, built strictly."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder to work in, with the demo's build and photographs."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "examples").symlink_to(ROOT / "examples")
    run("python -m build.run --demo --out mlimagenet", folder)
    return folder


def run(command: str, folder: Path) -> str:
    """Run a shell command as from the checkout with its environment on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLIMAGENET_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorials_examples_run(tutorial, desk):
    blocks = BLOCK.findall(tutorial.read_text(encoding="utf-8"))
    assert blocks
    python = ""
    for language, text in blocks:
        if language == "sh":
            run(text, desk)
        else:
            python += text + "\n"
    if python:
        script = desk / f"{tutorial.stem}.py"
        script.write_text(python, encoding="utf-8")
        run(f"python {script.name}", desk)


def test_there_are_tutorials_for_what_people_want():
    assert [path.stem for path in TUTORIALS] == ["evaluate", "labels", "publish", "relabel", "train"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site/reference/loader/index.html").read_text(encoding="utf-8")
    assert "MultiLabelImageNet" in page
    assert "visibility" in page
