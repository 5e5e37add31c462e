"""Fixtures for all tests: private caches, the demo build, and real photographs if available."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent

# Tests and the builds that they start share the cores, and library threads that spin while they wait cost more than they
# save. Set this before any test imports a library that reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def own_caches(tmp_path_factory):
    """Keep indices and Hugging Face caches out of the user's home, and the Hub out of the tests."""
    cache = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLIMAGENET_CACHE", str(cache / "mlimagenet"))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("HF_DATASETS_CACHE", str(cache / "datasets"))
    patch.delenv("MLIMAGENET_ANNOTATIONS", raising=False)
    yield cache
    patch.undo()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """`once(name, make)`: a folder that `make(folder)` fills once for all pytest-xdist workers; never write to it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def made(name, make):
        folder, is_whole = shared / name, shared / f"{name}.whole"
        with FileLock(shared / f"{name}.lock"):
            if not is_whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                is_whole.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def demo(once):
    """The dataset folder of the demo, built once by the command of `make demo`."""

    def build(folder):
        known = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "build.run", "--demo", "--out", "mlimagenet"]
        done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    return once("demo", build) / "mlimagenet"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real test photographs."""
    named = os.environ.get("MLIMAGENET_TEST_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("MLIMAGENET_TEST_DATA must name the folder of real test photographs")
    return Path(named)
