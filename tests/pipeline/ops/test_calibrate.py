import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from build import BuildConfig, relabel
from build.config.command_line import parse
from build.config.options import ConfigError
from build.config.presets import PRESETS
from build.ops.calibrate import choose_tau, stability
from build.run import main
from tests.pipeline.ops.test_maskcut import scenes


def test_the_chosen_tau_has_the_most_stable_regions():
    """Boxes whose features are 0.6 alike to themselves and 0 to others: nothing is cut right above or near 0."""
    features = torch.from_numpy(scenes(12))
    taus = (0.1, 0.5, 0.9)
    counts = stability(features, taus, num_regions=3, min_area=0.01, max_iou=0.5)
    assert counts.shape == (12, 3)
    assert (counts <= 3).all()
    assert choose_tau(counts, taus) == 0.5


def test_the_lowest_of_equal_taus_is_chosen():
    assert choose_tau(np.array([[1, 2, 2], [0, 1, 1]]), (0.1, 0.2, 0.3)) == 0.2


def test_a_build_calibrates_once_and_prints_the_tau(photographs, tmp_path, capsys):
    arguments = ["--images", str(photographs), "--out", str(tmp_path / "out"), "--calibrate-tau", "3", "--limit", "4",
                 "--image-size", "128", "--scan-size", "0"]  # fmt: skip
    assert main(arguments) == 0
    known = json.loads((tmp_path / "out/.build/train/tau.json").read_text())
    assert known["images"] == 3
    split = json.loads((tmp_path / "out/build_manifest.json").read_text())["splits"]["train"]
    assert split["config"]["regions"]["tau"] == known["tau"]
    assert f"tau {known['tau']:g}, chosen from 3 images" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "regions: nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_options_override_them(name):
    given = ["--images", "x", "--preset", name, "--label-maps", "y"]
    assert parse(given).image_size == PRESETS[name]["image_size"]
    assert parse([*given, "--image-size", "320"]).image_size == 320


def test_another_backbone_relabels_with_the_embedded_label_map(photographs, tmp_path):
    config = BuildConfig(
        images=str(photographs), out=str(tmp_path / "out"), backbone="vit_small_patch16_dinov3", weights="random",
        image_size=96, label_map_size=128, scan_size=0, tau=0.9, patch_features="keys",
    )  # fmt: skip
    split = relabel(config).split
    assert split["statuses"].get("ok", 0) + split["statuses"].get("no_regions", 0) == split["rows"]
    assert split["labeler"]["path"] == "backbone_head"
    split = relabel(replace(config, region_features="backbone", alignment=0.01, epochs=1)).split
    assert split["labeler"]["path"] == "trained_from_nothing"


def test_training_a_head_without_regions_is_an_error(photographs, tmp_path):
    config = BuildConfig(
        images=str(photographs), out=str(tmp_path / "out"), backbone="vit_small_patch16_dinov3", weights="random",
        image_size=64, label_map_size=64, scan_size=0, region_features="backbone", alignment=1,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no region has an alignment of at least 1"):
        relabel(config)
