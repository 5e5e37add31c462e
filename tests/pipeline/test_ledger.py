import json

import pytest

from build.ledger import Ledger, Output, write_atomic


def commit(ledger, unit="a.bin", fingerprint="f", content=b"content", settings=None):
    output = Output(3, {"labels": 5}, lambda path: path.write_bytes(content))
    return ledger.commit(unit, fingerprint, settings or {"tau": 0.3}, output)


def test_a_committed_unit_is_done(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.why_not_done("a.bin", "f", {}) == "not done yet"
    entry = commit(ledger)
    assert ledger.why_not_done("a.bin", "f", {}) is None
    assert ledger.entry("a.bin") == entry
    assert (entry.rows, entry.size, entry.facts) == (3, 7, {"labels": 5})


def test_what_changed_is_named(tmp_path):
    ledger = Ledger(tmp_path)
    commit(ledger)
    assert ledger.why_not_done("a.bin", "g", {"tau": 0.4}) == "changed: tau was 0.3, is 0.4"
    assert ledger.why_not_done("a.bin", "g", {"tau": 0.3}) == "inputs changed"


def test_files_that_are_gone_or_cut_are_noticed(tmp_path):
    ledger = Ledger(tmp_path)
    commit(ledger)
    (tmp_path / "a.bin").write_bytes(b"cut")
    assert ledger.why_not_done("a.bin", "f", {}) == "its file has 3 bytes, 7 were written"
    (tmp_path / "a.bin").unlink()
    assert ledger.why_not_done("a.bin", "f", {}) == "its file is gone"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"file": 1}'])
def test_a_damaged_entry_is_no_entry(tmp_path, text):
    ledger = Ledger(tmp_path)
    commit(ledger)
    (tmp_path / "a.bin.json").write_text(text)
    assert ledger.why_not_done("a.bin", "f", {}) == "not done yet"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_a_failed_commit_leaves_no_entry(tmp_path):
    ledger = Ledger(tmp_path)
    commit(ledger)

    def fail(temporary):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ledger.commit("a.bin", "g", {}, Output(1, {}, fail))
    assert ledger.why_not_done("a.bin", "f", {}) == "not done yet"


def test_units_that_no_longer_exist_are_removed_and_nothing_else(tmp_path):
    ledger = Ledger(tmp_path)
    commit(ledger, "a.bin")
    commit(ledger, "b.bin")
    (tmp_path / "notes.txt").write_text("not ours")
    ledger.remove_others({"a.bin"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "a.bin.json", "notes.txt"]
    assert json.loads((tmp_path / "a.bin.json").read_text())["rows"] == 3
