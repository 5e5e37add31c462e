"""What all fault tests start from, made once: photographs, and a build of them that nothing disturbed. Read, never written."""

import pytest

from tests.faults.harness import finish, start, write_photographs


@pytest.fixture(scope="session")
def photographs(once):
    return once("noise", write_photographs)


@pytest.fixture(scope="session")
def undisturbed(once, photographs):
    def build(folder):
        assert finish(start(photographs, folder / "mlimagenet")) == 0

    return once("undisturbed", build) / "mlimagenet"
