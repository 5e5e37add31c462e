import pytest

from benchmarks.measures.importing import measure, write_labels
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.published import read_published
from mlimagenet_data.formats.tsv import read_tsv


@pytest.mark.parametrize(("form", "masks"), [("tsv", 0), ("published", 2)])
def test_measure_reports_rows_time_and_memory(form, masks):
    found = measure(50, form=form, masks=masks)
    assert (found["rows"], found["regions"]) == (50, 50 * masks)
    assert found["seconds"] > 0
    assert found["peak_mb"] > 10


def test_generated_lines_are_valid_and_have_one_to_five_classes(tmp_path):
    tables = [
        next(read_tsv(write_labels(tmp_path, 300, "tsv"), Faults(skip=False))),
        next(read_published([write_labels(tmp_path, 300, "published")], Faults(skip=False))),
    ]
    for table in tables:
        assert table.num_rows == 300
        assert {len(labels) for labels in table["labels"].to_pylist()} == {1, 2, 3, 4, 5}
        assert table["label"].to_pylist() == [k * 1000 // 300 for k in range(300)]
    assert tables[0].to_pylist() == tables[1].to_pylist()
