import numpy as np
import pytest

from benchmarks.measures.fuzz import READERS, Reader, fuzz
from benchmarks.mutations import altered, mutated


@pytest.mark.parametrize("name", sorted(READERS))
def test_damaged_files_are_read_or_refused(tmp_path, name):
    counts = fuzz(name, 150, 12345, tmp_path / "findings")
    assert set(counts) <= {"read", "refused"}
    assert counts["refused"] > 10  # the changes do damage
    assert not (tmp_path / "findings").exists()


def test_findings_are_saved_and_reproducible(tmp_path, monkeypatch):
    def broken(folder):
        return Reader(b"valid", lambda content: 1 / int(content == b"valid"), KeyError)

    monkeypatch.setitem(READERS, "broken", broken)
    counts = fuzz("broken", 20, 0, tmp_path)
    assert counts["raised ZeroDivisionError"] >= 15
    number = int(next(tmp_path.iterdir()).name.rpartition("-")[2])
    assert (tmp_path / f"broken-0-{number}").read_bytes() == mutated(b"valid", np.random.default_rng((0, number)))


def test_altered_changes_a_copy_of_the_value():
    value = {"a": [1, 2.5, "text"], "b": {"c": [[0], [1]]}}
    kept = repr(value)
    found = [repr(altered(value, np.random.default_rng(k), any_type=k % 2 == 0)) for k in range(200)]
    assert repr(value) == kept
    assert len(set(found)) > 60
    assert {"nan" in text for text in found} == {True, False}
