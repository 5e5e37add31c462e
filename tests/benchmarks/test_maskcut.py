import json

from benchmarks.maskcut import main


def test_the_benchmark_runs_and_reports_its_figures(tmp_path):
    out = tmp_path / "maskcut.json"
    main(["--grids", "10", "12", "--count", "4", "--plain", "2", "--repeats", "1", "--batch", "4", "--json", str(out)])
    figures = json.loads(out.read_text())
    assert set(figures["grids"]) == {"10", "12"}
    for row in figures["grids"].values():
        assert row["eigen_ms"] > 0
        assert row["masks_the_same"] <= row["masks"]
    assert set(figures["growth"]["regions_ms"]) == {"1", "2", "4", "8"}
