"""What all tests share: caches of their own, and the real photographs where they are at hand."""

import os
from pathlib import Path

import pytest

# Tests, and the builds that they start, share the cores: threads of libraries, which spin while they wait, cost more than they
# save. Set before any test imports such a library.
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
def real_data() -> Path:
    """The folder of real test photographs."""
    named = os.environ.get("MLIMAGENET_TEST_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("MLIMAGENET_TEST_DATA does not name the folder of real test photographs")
    return Path(named)
