import pytest

from build.run import main


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo, built once: its dataset folder."""
    out = tmp_path_factory.mktemp("demo") / "mlimagenet"
    assert main(["--demo", "--out", str(out)]) == 0
    return out
