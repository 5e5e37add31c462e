import pytest
from filelock import FileLock, Timeout

from build.config.options import ConfigError
from build.state.lock import LeaseLostError, sole_run


def test_a_second_run_is_refused_and_named(tmp_path):
    with sole_run(tmp_path) as lease:
        assert lease.earlier == ""
        with pytest.raises(ConfigError, match=r"another run \(process \d+"), sole_run(tmp_path):
            pytest.fail("two runs hold the lock")


def test_a_run_that_died_is_named_to_the_next_one(tmp_path):
    with pytest.raises(RuntimeError), sole_run(tmp_path):
        raise RuntimeError
    with sole_run(tmp_path) as lease:
        assert lease.earlier.startswith("another run (process")
    with sole_run(tmp_path) as lease:
        assert lease.earlier == ""


def test_a_run_that_was_refused_leaves_nothing_to_resume(tmp_path):
    with pytest.raises(ConfigError), sole_run(tmp_path):
        raise ConfigError("images: no such folder")
    with sole_run(tmp_path) as lease:
        assert lease.earlier == ""


def test_epochs_grow_and_parts_of_one_count_run_together(tmp_path):
    with sole_run(tmp_path, (0, 2)) as first, sole_run(tmp_path, (1, 2)) as second:
        assert second.epoch > first.epoch
        with first.held(), pytest.raises(Timeout):
            FileLock(tmp_path / "locks" / "epochs.lock", timeout=0).acquire()
        with second.held():
            pass
    with sole_run(tmp_path, (0, 3)):
        for lease in (first, second):
            with pytest.raises(LeaseLostError), lease.held():
                pass


def test_a_whole_run_ends_the_leases_of_parts(tmp_path):
    with sole_run(tmp_path, (0, 2)) as part:
        pass
    with sole_run(tmp_path) as whole:
        with whole.held():
            pass
        with pytest.raises(LeaseLostError), part.held():
            pass


@pytest.mark.parametrize("text", ["", "[]", "{", '{"last": "x", "holders": 3}'])
def test_damaged_state_of_locks_is_written_anew(tmp_path, text):
    with sole_run(tmp_path) as earlier:
        pass
    for name in ("epochs.json", "run.json"):
        (tmp_path / "locks" / name).write_text(text)
    with sole_run(tmp_path) as lease, lease.held():
        assert lease.epoch > earlier.epoch
