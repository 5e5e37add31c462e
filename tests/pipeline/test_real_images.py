"""The first version's bars, on real photographs."""

import json

import pytest

from build.run import main


@pytest.mark.data
@pytest.mark.slow
def test_the_pipeline_finds_most_original_labels_by_itself(real_data, tmp_path):
    out = tmp_path / "out"
    arguments = ["--images", str(real_data / "imagenet-sample"), "--out", str(out), "--limit", "100"]
    assert main(arguments) == 0
    split = json.loads((out / "build_manifest.json").read_text())["splits"]["train"]
    assert split["statuses"].get("ok", 0) + split["statuses"].get("no_regions", 0) == 100
    assert split["original_label_found"] >= 80
    assert 1.1 <= split["labels"] / 100 <= 3
