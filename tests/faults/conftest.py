"""What all fault tests start from, made once: photographs, and a build of them that nothing disturbed. Read, never written."""

import pytest

from tests.faults.harness import finish, start, write_photographs


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, photographs):
    out = tmp_path_factory.mktemp("undisturbed") / "mlimagenet"
    assert finish(start(photographs, out)) == 0
    return out
