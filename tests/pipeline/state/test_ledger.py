import hashlib
import json
import os
import shutil

import pytest

from build.state.ledger import Ledger, LedgerEntry, UnitOutput, changed_settings
from build.state.lock import LeaseLostError, sole_run
from mlimagenet_data.errors import StateError
from mlimagenet_data.files.atomic import write_atomic, write_json


@pytest.fixture
def lease(tmp_path_factory):
    with sole_run(tmp_path_factory.mktemp("work")) as lease:
        yield lease


def commit(ledger, unit="a.bin", fingerprint="f", content=b"content", settings=None):
    output = UnitOutput(3, {"labels": 5}, lambda path: path.write_bytes(content))
    return ledger.commit(unit, fingerprint, settings or {"tau": 0.3}, output)


def test_a_committed_unit_is_done(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    assert ledger.why_not_done("a.bin", "f", {}) == "not done yet"
    entry = commit(ledger)
    assert ledger.why_not_done("a.bin", "f", {}) is None
    assert ledger.entry("a.bin") == entry
    assert (entry.rows, entry.size, entry.facts) == (3, 7, {"labels": 5})


def test_changed_settings_are_named(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)
    assert ledger.why_not_done("a.bin", "g", {"tau": 0.4}) == "changed: tau was 0.3, is now 0.4"
    assert ledger.why_not_done("a.bin", "g", {"tau": 0.3}) == "inputs changed"


def test_missing_and_truncated_files_are_detected(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)
    (tmp_path / "a.bin").write_bytes(b"cut")
    assert ledger.why_not_done("a.bin", "f", {}) == "file damaged: 3 bytes instead of 7"
    (tmp_path / "a.bin").unlink()
    assert ledger.why_not_done("a.bin", "f", {}) == "file missing"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"file": 1}'])
def test_a_damaged_entry_counts_as_missing(tmp_path, lease, text):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)
    (tmp_path / "a.bin.json").write_text(text)
    assert ledger.why_not_done("a.bin", "f", {}) == "not done yet"


def test_a_failed_write_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_a_failed_commit_leaves_no_entry(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)

    def fail(temporary):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ledger.commit("a.bin", "g", {}, UnitOutput(1, {}, fail))
    assert ledger.why_not_done("a.bin", "f", {}) == "not done yet"


def test_a_write_makes_the_folders_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    write_atomic(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_content_stays_until_the_new_one_is_complete(tmp_path):
    path, seen = tmp_path / "file", []
    path.write_text("old")

    def write(temporary):
        temporary.write_text("new")
        seen.append(path.read_text())

    write_atomic(path, write)
    assert (seen, path.read_text()) == (["old"], "new")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_stopped_write_cleans_up(tmp_path, error):
    def stop(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomic(tmp_path / "file", stop)
    assert list(tmp_path.iterdir()) == []


def test_json_reads_back_and_has_sorted_keys(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"é": True}}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert text.index('"a"') < text.index('"b"')


def test_changes_name_old_and_new_values():
    assert changed_settings({"a": 1, "b": 2}, {"a": 1, "b": 2}) == ""
    assert (
        changed_settings({"b": 2, "a": 1}, {"c": 3, "a": 0})
        == "a was 1, is now 0, b was 2, is now None, c was None, is now 3"
    )


def test_the_hash_is_that_of_the_file(tmp_path, lease):
    entry = commit(Ledger(tmp_path, lease=lease), content=b"some bytes")
    assert entry.sha256 == hashlib.sha256(b"some bytes").hexdigest()


def test_a_unit_committed_again_is_replaced(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger, fingerprint="f", content=b"old")
    commit(ledger, fingerprint="g", content=b"newer")
    assert ledger.path("a.bin").read_bytes() == b"newer"
    assert ledger.why_not_done("a.bin", "g", {}) is None
    assert ledger.why_not_done("a.bin", "f", {"tau": 0.3}) == "inputs changed"


def test_a_stop_between_file_and_entry_leaves_the_unit_undone(tmp_path, lease, monkeypatch):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger, fingerprint="f")

    def stop(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr("build.state.ledger.write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        commit(ledger, fingerprint="f", content=b"changed")
    assert ledger.why_not_done("a.bin", "f", {"tau": 0.3}) == "not done yet"


def test_units_are_independent(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger, "a.bin", "f")
    assert ledger.why_not_done("b.bin", "f", {}) == "not done yet"
    commit(ledger, "b.bin", "g")
    ledger.path("b.bin").unlink()
    assert ledger.why_not_done("a.bin", "f", {}) is None


def test_removing_a_unit_leaves_other_files(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger, "a.bin")
    commit(ledger, "b.bin")
    (tmp_path / "notes.txt").write_text("not ours")
    ledger.remove("b.bin")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "a.bin.json", "notes.txt"]


def test_without_a_lease_nothing_is_committed(tmp_path):
    with pytest.raises(LeaseLostError, match="only a run that holds the build's lock may commit"):
        commit(Ledger(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_was_hashed_is_read_and_a_damaged_one_is_refused_and_made_again(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)
    path = ledger.read("a.bin")
    assert path.read_bytes() == b"content"
    info = path.stat()
    path.write_bytes(b"c0ntent")  # one byte
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    with pytest.raises(StateError, match=r"a\.bin: file damaged: hash differs; run the same command again"):
        ledger.read("a.bin")
    assert ledger.why_not_done("a.bin", "f", {"tau": 0.3}) == "not done yet"
    commit(ledger)
    assert ledger.read("a.bin").read_bytes() == b"content"


def test_a_changed_byte_is_seen_although_size_and_modification_time_are_kept(tmp_path, lease):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)
    info = ledger.path("a.bin").stat()
    ledger.path("a.bin").write_bytes(b"c0ntent")
    os.utime(ledger.path("a.bin"), ns=(info.st_atime_ns, info.st_mtime_ns))
    assert ledger.why_not_done("a.bin", "f", {"tau": 0.3}) == "file damaged: hash differs"


def test_a_copy_with_other_times_counts_as_done_and_is_hashed_once(tmp_path, lease, monkeypatch):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)
    shutil.copy(ledger.path("a.bin"), tmp_path / "copy")
    os.replace(tmp_path / "copy", ledger.path("a.bin"))
    assert ledger.why_not_done("a.bin", "f", {"tau": 0.3}) is None
    monkeypatch.setattr(LedgerEntry, "fault", lambda self, path: pytest.fail("hashed again"))
    assert ledger.why_not_done("a.bin", "f", {"tau": 0.3}) is None


@pytest.mark.parametrize("field", ["file", "sha256", "size", "rows", "settings", "facts", "fingerprint"])
def test_an_entry_that_was_changed_counts_as_missing(tmp_path, lease, field):
    ledger = Ledger(tmp_path, lease=lease)
    commit(ledger)
    path = tmp_path / "a.bin.json"
    found = json.loads(path.read_text())
    found["entry"][field] = {"labels": 6} if isinstance(found["entry"][field], dict) else 8
    path.write_text(json.dumps(found))
    assert ledger.entry("a.bin") is None


def test_a_later_run_ends_the_right_of_an_earlier_one_to_commit(tmp_path):
    with sole_run(tmp_path / "work") as earlier:
        pass  # its workers may live on
    late = Ledger(tmp_path / "units", lease=earlier)
    commit(late)  # nobody else has begun
    with sole_run(tmp_path / "work") as lease:
        with pytest.raises(LeaseLostError, match="another run has taken over"):
            commit(late, content=b"of the old run")
        ledger = Ledger(tmp_path / "units", lease=lease)
        assert ledger.read("a.bin").read_bytes() == b"content"
        commit(ledger, content=b"of the new run")
        with pytest.raises(LeaseLostError):
            late.withdraw("a.bin")
    assert Ledger(tmp_path / "units").read("a.bin").read_bytes() == b"of the new run"
    assert [path for path in (tmp_path / "units").iterdir() if path.name.endswith(".tmp")] == []
