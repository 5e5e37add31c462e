"""Damaged and hostile Parquet files: they are refused by name, before memory is taken."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlimagenet_data.annotations.schema import arrow_schema, parquet_writer
from mlimagenet_data.annotations.validate import COLUMNS, checked_batches
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.pages import PageError, read_pages
from mlimagenet_data.files.parquet import open_parquet, read_batches, read_columns
from tests.support.annotated import random_rows

ROOT = Path(__file__).parent.parent.parent
SCHEMA = arrow_schema()


def table(count=40, seed=1):
    return pa.Table.from_pylist(random_rows(count, seed), schema=SCHEMA)


def written(path, rows):
    with parquet_writer(path, SCHEMA) as writer:
        writer.write_table(rows)
    return path


def replaced(rows, name, values):
    place = SCHEMA.get_field_index(name)
    return rows.set_column(place, pa.field(name, values.type), values)


@pytest.mark.parametrize(
    "options",
    [{}, {"row_group_size": 7}, {"use_dictionary": False}, {"dictionary_pagesize_limit": 200}, {"compression": "none"},
     {"data_page_version": "2.0"}, {"data_page_size": 100, "write_page_checksum": True}, {"write_page_index": True}],
)  # fmt: skip
def test_files_are_read_as_arrow_reads_them(tmp_path, options):
    rows = table()
    rows = replaced(rows, "status", pa.array([None if k % 5 else "ok" for k in range(len(rows))]))
    pq.write_table(rows, tmp_path / "a.parquet", **options)
    batches = list(read_batches(tmp_path / "a.parquet", COLUMNS, rows=16))
    assert [first for first, _ in batches] == list(np.cumsum([0] + [batch.num_rows for _, batch in batches]))[:-1]
    assert max(batch.num_rows for _, batch in batches) <= 16
    assert pa.Table.from_batches([batch for _, batch in batches]).to_pylist() == rows.to_pylist()
    assert read_columns(tmp_path / "a.parquet", ["status", "image_id"]).to_pylist() == (
        rows.select(["status", "image_id"]).to_pylist()
    )
    assert open_parquet(tmp_path / "a.parquet").metadata.num_rows == 40


def test_an_empty_file_has_no_batches_and_its_columns(tmp_path):
    file = written(tmp_path / "a.parquet", table(0))
    assert list(read_batches(file, COLUMNS)) == []
    assert read_columns(file, ["label", "image_id"]).schema.names == ["label", "image_id"]


def test_batches_of_large_rows_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr("mlimagenet_data.files.parquet._BATCH_BYTES", 5000)
    file = written(tmp_path / "a.parquet", table(200))
    batches = [batch for _, batch in read_batches(file, COLUMNS)]
    assert len(batches) > 10
    assert pa.Table.from_batches(batches).to_pylist() == table(200).to_pylist()


def outcome(path):
    """Return a file's batches, or none and the refusal."""
    try:
        return [batch for _, batch in read_batches(path, COLUMNS)], ""
    except AnnotationError as error:
        return [], str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.0001, bit=1)  # the kind of the first page
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path, place, bit):
    rows = table(60)
    raw = bytearray(written(tmp_path / "whole.parquet", rows).read_bytes())
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    raw[4 + int(place * (footer - 4))] ^= 1 << bit
    (tmp_path / "flipped.parquet").write_bytes(raw)
    found, said = outcome(tmp_path / "flipped.parquet")
    assert (
        "flipped.parquet: not a readable shard" in said or pa.Table.from_batches(found).to_pylist() == rows.to_pylist()
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_rows_or_a_named_error(tmp_path, data):
    raw = bytearray(written(tmp_path / "whole.parquet", table(5)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.parquet").write_bytes(
        raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    )
    _, said = outcome(tmp_path / "damaged.parquet")
    assert "damaged.parquet: " in said or not said
    with contextlib.suppress(AnnotationError):
        list(checked_batches(tmp_path / "damaged.parquet"))


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.parquet")
    for path in (tmp_path / "pipe.parquet", tmp_path):
        with pytest.raises(AnnotationError, match="not a regular file"):
            open_parquet(path)
    with pytest.raises(AnnotationError, match="nowhere"):
        open_parquet(tmp_path / "nowhere")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(AnnotationError, match="empty: not a readable shard"):
        next(read_batches(tmp_path / "empty", COLUMNS))


def long_texts(path):
    """20,000 rows whose image_id is one text of 270,000 characters: 5.4 GB."""
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 270_000]))
    rows = replaced(table(1).take(np.zeros(20_000, np.int64)), "image_id", ids)
    pq.write_table(rows, path, dictionary_pagesize_limit=1 << 30, row_group_size=20_000)


def long_masks(path):
    """One row with 2,000 regions whose counts are one text of 270,000 characters: 540 MB."""
    kind = SCHEMA.field("regions").type
    item = random_rows(9, seed=3)[1]
    region = item["regions"][0] | {"mask": {"size": [4, 4], "counts": "0" * 270_000}}
    rows = pa.Table.from_pylist([item | {"regions": []}], schema=SCHEMA)
    regions = pa.array([[region] * 2000], kind)
    rows = rows.set_column(SCHEMA.get_field_index("regions"), SCHEMA.field("regions"), regions)
    pq.write_table(rows, path, compression="zstd", dictionary_pagesize_limit=1 << 30)


def many_labels(path):
    """One row with 30 million labels, as run-length codes."""
    count = 30_000_000
    offsets = pa.array([0, count], pa.int32())
    lists = {"labels": np.zeros(count, np.int64), "scores": np.ones(count, np.float32)}
    rows = table(1)
    for name, values in lists.items():
        column = pa.ListArray.from_arrays(offsets, pa.array(values)).cast(SCHEMA.field(name).type)
        rows = rows.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
    pq.write_table(rows, path, compression="zstd", data_page_size=1 << 30, write_statistics=False)


def large_page(path):
    """One text of 400 MB, compressed well."""
    rows = replaced(table(1), "image_id", pa.array(["x" * 400_000_000]))
    pq.write_table(rows, path, compression="zstd", use_dictionary=False, write_statistics=False)


def without_sizes(path, old, new):
    """Replace a number in the footer, which then contradicts the pages' headers."""
    raw = path.read_bytes()
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    assert varint(old) in raw[footer:]
    path.write_bytes(raw[:footer] + raw[footer:].replace(varint(old), varint(new, len(varint(old)))))


def varint(value, length=0):
    value, out = value << 1, []
    while value or not out:
        out.append(value & 127)
        value >>= 7
    out += [0] * (length - len(out))
    return bytes(part | 128 for part in out[:-1]) + bytes(out[-1:])


READ = """
import resource, sys
from pathlib import Path
from mlimagenet_data.annotations.validate import checked_batches
from mlimagenet_data.errors import AnnotationError
import pyarrow.parquet
taken = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (taken + (700 << 20),) * 2)
try:
    print(sum(1 for _ in checked_batches(Path(sys.argv[1]))))
except AnnotationError as error:
    print("refused", error)
"""


@pytest.mark.parametrize(
    ("make", "lie", "words"),
    [
        (long_texts, None, "row 0, image_id: xxx.* is empty or too long"),
        (long_masks, None, r"one row takes \d+ bytes of memory; it must take at most"),
        (many_labels, None, r"row group 0: \d+ bytes that take \d{9,} bytes of memory are not read"),
        (many_labels, (30_000_000, 2), r"row group 0: \d+ bytes that take \d{9,} bytes"),
        (large_page, None, r"row group 0: \d+ bytes that take \d{9,} bytes"),
        (large_page, (400_000_035, 100), r"row group 0: \d+ bytes that take \d{9,} bytes"),
    ],
)
def test_a_small_file_does_not_take_gigabytes(tmp_path, make, lie, words):
    path = tmp_path / "bomb.parquet"
    make(path)
    assert path.stat().st_size < 600_000
    if lie:
        without_sizes(path, *lie)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(rf"refused .*bomb\.parquet: .*{words}", done.stdout), done.stdout[:300]
    assert len(done.stdout) < 1000


def test_odd_columns_are_refused(tmp_path):
    rows = table(3)
    odd = {
        "fixed length": pa.array([b"ab"] * 3, pa.binary(2)),
        "has the type map": pa.array([[("a", "b")]] * 3, pa.map_(pa.string(), pa.string())),
    }
    for words, values in odd.items():
        pq.write_table(replaced(rows, "image_id", values), tmp_path / "a.parquet")
        with pytest.raises(AnnotationError, match=rf"a\.parquet: .*{words}"):
            list(read_batches(tmp_path / "a.parquet", COLUMNS))
    pq.write_table(
        rows, tmp_path / "a.parquet", use_dictionary=False, column_encoding={"file_name": "DELTA_BYTE_ARRAY"}
    )
    with pytest.raises(AnnotationError, match="file_name is encoded as DELTA_BYTE_ARRAY; write it as PLAIN"):
        list(read_batches(tmp_path / "a.parquet", COLUMNS))
    with pytest.raises(AnnotationError, match=r"columns \['other'\] are missing"):
        list(read_batches(tmp_path / "a.parquet", ["other"]))


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_pages_or_a_page_error(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "pages"
    path.write_bytes(raw)
    with open(path, "rb") as file, contextlib.suppress(PageError):
        assert all(page.values >= 0 <= page.uncompressed for page in read_pages(file, 0, len(raw)))


def test_a_field_that_occurs_twice_is_refused(tmp_path):
    header = bytes([0x15, 0, 0x15, 20, 0x15, 0, 0x2C, 0x15, 2, 0x15, 0, 0, 0])  # type, sizes 10 and 0, one value, plain
    (tmp_path / "good").write_bytes(header)
    (tmp_path / "twice").write_bytes(header[:-1] + bytes([0x05, 4, 2, 0]))  # the second field once more
    with open(tmp_path / "good", "rb") as file:
        assert [tuple(page) for page in read_pages(file, 0, len(header))] == [(10, 1, 0)]
    with open(tmp_path / "twice", "rb") as file, pytest.raises(PageError, match="holds field 2 twice"):
        list(read_pages(file, 0, len(header) + 3))
