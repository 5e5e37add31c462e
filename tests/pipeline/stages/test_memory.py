"""Batches that do not fit into a GPU's memory."""

import pytest
import torch

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.stages import regions

SMALL = {"image_size": 64, "scan_size": 0, "workers": 1}


def fits(most, monkeypatch):
    """Let batches of more than `most` images fail, as on a GPU that lacks memory; return the sizes that were tried."""
    tried, find = [], regions.find_regions

    def find_regions(seen, config):
        tried.append(len(seen.images))
        if len(seen.images) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return find(seen, config)

    monkeypatch.setattr(regions, "find_regions", find_regions)
    return tried


def test_they_are_halved_and_later_ones_are_smaller(tmp_path, photographs, monkeypatch, capsys):
    tried = fits(1, monkeypatch)
    report = relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "out"), batch_size=4, **SMALL))
    assert tried.count(1) == len(report.plan.listing.images) == 8
    assert max(tried) == 4
    assert "do not fit into the GPU's memory; going on with --batch-size" in capsys.readouterr().out
    plain = relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "plain"), **SMALL))
    assert report.split["labels"] == plain.split["labels"]


def test_a_single_image_that_does_not_fit_is_an_error_that_says_what_to_do(tmp_path, photographs, monkeypatch):
    fits(0, monkeypatch)
    with pytest.raises(ConfigError, match=r"a single image does not fit into the GPU's memory .*smaller network"):
        relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "out"), **SMALL))


def test_missing_weights_are_an_error_before_any_worker_starts(tmp_path, photographs):
    options = {"images": str(photographs), "out": str(tmp_path / "out"), "processes": 2, **SMALL}
    with pytest.raises(ConfigError, match=r"weights: .*gone\.pth is not a file; pass a file, hub or random"):
        relabel(BuildConfig(**options, weights=str(tmp_path / "gone.pth")))
    with pytest.raises(ConfigError, match=r"label_maps: .* is not a folder"):
        relabel(BuildConfig(**options, label_maps=str(tmp_path / "gone")))
