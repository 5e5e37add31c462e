import json

import numpy as np

from benchmarks.loader import main
from tests.support.annotated import region, row, write_images, write_rows


def test_the_benchmark_runs_and_reports_its_figures(tmp_path):
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    rows = [row(f"image{k}", (50, 60), [region(mask, k % 3)], label=k % 3) for k in range(30)]
    write_rows(tmp_path / "annotations", rows)
    write_images(tmp_path / "images", rows)
    out = tmp_path / "loader.json"
    arguments = ["--images", str(tmp_path / "images"), "--annotations", str(tmp_path / "annotations"), "--workers", "0"]
    main([*arguments, "--repeats", "1", "--passes", "1", "--rows", "300", "--touch", "40", "--json", str(out)])
    figures = json.loads(out.read_text())
    names = {"ImageFolder", "ImageFolder again", "dense vectors", "label maps", "full masks", "ours"}
    assert set(figures["throughput"]["0"]["approaches"]) == names
    assert all(row["ratio"]["value"] > 0 for row in figures["throughput"]["0"]["approaches"].values())
    assert figures["images"]["count"] == 30
    assert not any(figures["images"]["different"].values())  # all show the same crops
    assert set(figures["start"]["approaches"]) == names - {"ImageFolder again"}
    assert figures["labels_us"]["ours"]["value"] > 0
    assert figures["store"]["build"]["rows"] == 300
    assert len(figures["store"]["touch"]["touched_mb"]) == 4
    assert figures["store"]["dense"]["extrapolated_mb"] > 1
    assert len(figures["targets"]) == 6
