"""The examples in the docs, run one after the other as a reader would, on the demo's build; and the site, built strictly."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import build.run
import mlimagenet_data.cli

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def desk(demo, tmp_path_factory):
    """A checkout to work in, with the demo's build and photographs, and what a second build of them need not do again."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("mlimagenet", "runs/variant"):
        shutil.copytree(demo, folder / name)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line of shell in this process; that the commands start as such is for `demo` and test_packaging to find out."""
    assert not set(command) & set("|<>;&$`*"), f"more than words: {command}"
    match shlex.split(command):
        case ["mkdir", "-p", folder]:
            Path(folder).mkdir(parents=True, exist_ok=True)
        case ["python", "-m", "build.run", *arguments]:
            monkeypatch.setattr(sys, "argv", ["build.run", *arguments])
            assert build.run.main() == 0, command
        case ["mlimagenet", *arguments]:
            monkeypatch.setattr(sys, "argv", ["mlimagenet", *arguments])
            assert mlimagenet_data.cli.main() == 0, command
        case ["python", script, *arguments]:
            monkeypatch.setattr(sys, "argv", [script, *arguments])
            monkeypatch.setattr(sys, "path", [str(Path(script).parent), *sys.path])
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit as end:
                if end.code:
                    raise
        case _:
            pytest.fail(f"no command that is known here: {command}")


def run_python(blocks: list[str], page: Path) -> None:
    """Run a page's Python as one script; skip the rest of it where a library is missing."""
    names: dict[str, object] = {"__name__": "__main__"}
    for text in blocks:
        for library in re.findall(r"^from (accelerate|transformers) import", text, re.MULTILINE):
            pytest.importorskip(library, reason=f"{page.name} shows how to use it")
        exec(compile(text, page, "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorials_examples_run_and_write_to_one_folder(tutorial, desk, monkeypatch):
    monkeypatch.chdir(desk)
    before = set(os.listdir())
    blocks = BLOCK.findall(tutorial.read_text(encoding="utf-8"))
    assert blocks
    for language, text in blocks:
        if language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                run(line, monkeypatch)
    run_python([text for language, text in blocks if language == "python"], tutorial)
    assert set(os.listdir()) - before <= {"mlimagenet-sheet.png"}  # which `make demo` leaves, too; all else is in runs/


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory'")  # by Trainer, on machines without a GPU
def test_the_recipes_for_other_trainers_run(desk, monkeypatch):
    monkeypatch.chdir(desk)
    page = ROOT / "docs/training.md"
    run_python(
        [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if language == "python"], page
    )


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
