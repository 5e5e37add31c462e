import pytest

from build.config.options import ConfigError
from build.state.lock import sole_run


def test_a_second_run_is_refused_and_named(tmp_path):
    with sole_run(tmp_path) as earlier:
        assert earlier == ""
        with pytest.raises(ConfigError, match=r"another run \(process \d+"), sole_run(tmp_path):
            pytest.fail("two runs hold the lock")


def test_a_run_that_died_is_named_to_the_next_one(tmp_path):
    with pytest.raises(RuntimeError), sole_run(tmp_path):
        raise RuntimeError
    with sole_run(tmp_path) as earlier:
        assert earlier.startswith("another run (process")
    with sole_run(tmp_path) as earlier:
        assert earlier == ""


def test_a_run_that_was_refused_leaves_nothing_to_resume(tmp_path):
    with pytest.raises(ConfigError), sole_run(tmp_path):
        raise ConfigError("images: no such folder")
    with sole_run(tmp_path) as earlier:
        assert earlier == ""
