from benchmarks.measures.importing import measure, write_lines
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.tsv import read_tsv


def test_measure_reports_rows_time_and_memory():
    found = measure(50)
    assert found["rows"] == 50
    assert found["seconds"] > 0
    assert found["peak_mb"] > 10


def test_generated_lines_are_valid_and_have_one_to_five_classes(tmp_path):
    write_lines(tmp_path / "a.tsv", 300, 0)
    (table,) = read_tsv(tmp_path / "a.tsv", Faults(skip=False))
    assert table.num_rows == 300
    assert {len(labels) for labels in table["labels"].to_pylist()} == {1, 2, 3, 4, 5}
    assert table["label"].to_pylist() == [k * 1000 // 300 for k in range(300)]
