import pyarrow.parquet as pq

from benchmarks.measures.scale import REGIONS, bookkeeping, listing, make_links, make_list, stages
from mlimagenet_data.annotations.store import AnnotationStore


def test_synthetic_regions_pass_the_builds_own_stages(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.measures.scale.DISTINCT", 200)
    make_list(tmp_path / "out", 600)
    found = stages(tmp_path / "out")
    assert found["rows"] == 600
    assert found["published_mb"] > 0.01
    (file,) = (tmp_path / "out" / "data").iterdir()
    rows = pq.read_table(file).to_pylist()
    assert len(rows) == 600
    assert 0 < sum(len(row["regions"]) for row in rows) <= 600 * REGIONS
    assert len(AnnotationStore(tmp_path / "out", "train")) == 600


def test_linked_files_are_listed(tmp_path):
    assert listing(make_links(tmp_path / "images", 1500))["files"] == 1500


def test_the_regions_stage_runs_without_a_network_on_linked_files(tmp_path):
    links = make_links(tmp_path / "images" / "train", 700)
    found = bookkeeping(links)
    assert found["no_network_rows"] == 700
    assert found["no_network_s"] > 0
    assert len(list(links.rglob("*.JPEG"))) == 700  # the build left its inputs alone
