"""The records that stages hand on, and their files."""

from dataclasses import fields

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build.records import LabelsRow, RegionsRow, read_rows, schema_of, table_of

REGIONS = [
    RegionsRow(
        image_id="n01440764/a", file_name="n01440764/a.JPEG", label=0, height=30, width=40, status="ok", grid=[2, 4],
        counts=["04", "23"], bbox=[[0.0, 0.0, 0.5, 1.0], [0.5, 0.5, 0.25, 0.5]], area=[0.5, 0.125], alignment=[0.75, None],
        clicked=[True, None], of_original=[True, False], elsewhere=[[3, 999], []], features=bytes(6), variants=b"",
        classes=[[7, 8], [], [9]],
        class_scores=[[0.5, 0.25], [], [1.0]], whole_classes=[7, 0], whole_scores=[0.5, 0.25],
    ),
    RegionsRow(image_id="b", file_name="b.png", status="unreadable", reason="cut off", places=bytes(4)),
]  # fmt: skip
LABELS = [
    LabelsRow(
        image_id="n01440764/a", labels=[0, 7], scores=[0.5, 0.25], found=True, kept=[1], rejected=1,
        topk_labels=[[0], [7, 8]], topk_scores=[[0.5], [0.25, 0.125]],
    ),
    LabelsRow(image_id="b"),
]  # fmt: skip
BOTH = pytest.mark.parametrize(
    ("kind", "rows"), [(RegionsRow, REGIONS), (LabelsRow, LABELS)], ids=["regions", "labels"]
)


def written(rows, kind, path):
    pq.write_table(table_of(rows, kind), path)
    return path


@BOTH
def test_rows_are_read_back_as_they_were_written(tmp_path, kind, rows):
    assert read_rows(written(rows, kind, tmp_path / "rows.parquet"), kind) == rows


@BOTH
def test_a_table_has_a_column_for_each_field(kind, rows):
    table = table_of(iter(rows), kind)
    assert table.schema == schema_of(kind)
    assert table.column_names == [field.name for field in fields(kind)]
    assert table.num_rows == len(rows)


@BOTH
def test_no_rows_make_an_empty_table_of_the_same_schema(tmp_path, kind, rows):
    file = written([], kind, tmp_path / "rows.parquet")
    assert pq.read_schema(file) == schema_of(kind)
    assert read_rows(file, kind) == []


@BOTH
def test_fields_whose_columns_are_not_read_keep_their_defaults(tmp_path, kind, rows):
    file = written(rows, kind, tmp_path / "rows.parquet")
    for field in fields(kind):
        found = read_rows(file, kind, field.name)
        assert found == [kind(**{field.name: getattr(row, field.name)}) for row in rows]
    names = [field.name for field in fields(kind)]
    assert read_rows(file, kind, *reversed(names)) == rows  # in any order


def test_rows_do_not_share_their_defaults():
    first, second = RegionsRow(), RegionsRow()
    first.counts.append("04")
    assert second.counts == []


@BOTH
def test_a_column_without_a_field_is_refused(tmp_path, kind, rows):
    with pytest.raises(ValueError, match=f"{kind.__name__} has no field 'nonsense'"):
        read_rows(written(rows, kind, tmp_path / "rows.parquet"), kind, "image_id", "nonsense")


def test_a_file_without_a_column_is_refused(tmp_path):
    pq.write_table(pa.table({"image_id": ["a"]}), tmp_path / "rows.parquet")
    with pytest.raises((KeyError, pa.ArrowInvalid), match="labels"):
        read_rows(tmp_path / "rows.parquet", LabelsRow, "image_id", "labels")
