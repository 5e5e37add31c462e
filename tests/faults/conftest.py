"""What all fault tests start from, made once: photographs, and a build of them that nothing disturbed. Read, never written."""

import pytest

from tests.faults.harness import finish, no_plot, start, write_photographs


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    """Draw none, a third of so small a build; the pipeline's tests look at them."""
    monkeypatch.setattr("build.stages.publish.plot", no_plot)


@pytest.fixture(scope="session")
def photographs(once):
    return once("noise", write_photographs)


@pytest.fixture(scope="session")
def undisturbed(once, photographs):
    def build(folder):
        assert finish(start(photographs, folder / "mlimagenet")) == 0

    return once("undisturbed", build) / "mlimagenet"
