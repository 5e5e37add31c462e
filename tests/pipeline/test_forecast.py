"""`--plan`: what a build would take."""

import shutil

import pytest
import torch

from build import BuildConfig, relabel
from build.forecast import forecast
from build.run import main

SMALL = {"image_size": 64, "scan_size": 0, "workers": 1}
FLAGS = ["--image-size", "64", "--scan-size", "0", "--workers", "1"]


def test_it_counts_what_is_left_and_writes_nothing(tmp_path, photographs):
    out = tmp_path / "out"
    config = BuildConfig(images=str(photographs), out=str(out), shard_size=3, **SMALL)
    found = forecast(config)
    assert not out.exists()
    assert (found.images, found.labelled, found.done, found.sample) == (8, 8, 0, 8)
    assert (found.machines, found.workers, found.uses_gpus, found.missing, found.stops) == (1, 1, False, (), False)
    relabel(config)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = forecast(config)
    assert again.done == 8
    assert again.intermediates == 0
    assert again.seconds["regions"] < found.seconds["regions"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    written = sum(
        path.stat().st_size for name in ("regions", "labels") for path in out.glob(f".build/train/{name}/*.parquet")
    )
    assert found.intermediates == pytest.approx(written, rel=0.3)  # three small files have three footers


def test_time_and_disk_grow_with_the_images_and_shrink_with_the_machines(tmp_path, photographs, monkeypatch):
    from build import forecast as module

    trial = module._Trial(
        images=48,
        start=10,
        decoding=0.01,
        regions=0.5,
        labels=0.1,
        publish=0.001,
        fixed=5,
        intermediates=1e4,
        dataset=100,
    )
    monkeypatch.setattr(module, "_try", lambda *args: trial)
    config = {"images": str(photographs), "out": str(tmp_path / "out"), "workers": 2}
    one = forecast(BuildConfig(**config))
    assert one.seconds == {"regions": 10 + 8 * 0.5, "labels": 0.8, "publish": 0.008, "rest": 5}
    assert (one.intermediates, one.dataset, one.decoding, one.networks) == (8e4, 800, 200, 2)
    four = forecast(BuildConfig(**config, num_shards=4, stage="regions", calibrate_tau=100))
    assert four.seconds["regions"] == 10 + 108 * 0.5 / 4
    monkeypatch.setattr(module, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(module, "cuda_devices", lambda: list("0123"))
    gpus = forecast(BuildConfig(**config))
    assert (gpus.workers, gpus.uses_gpus) == (4, True)
    assert gpus.seconds["regions"] == 10 + 8 * 0.5 / 4
    trial = module._Trial(**{**vars(trial), "decoding": 1.0})
    assert forecast(BuildConfig(**config)).seconds["regions"] == 10 + 8 / 2  # two threads decode two a second
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    full = forecast(BuildConfig(**config))
    assert full.stops
    assert "more than are free" in full.missing[0]


def test_what_is_missing_is_named_and_does_not_stop_the_trial(tmp_path, photographs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = ["--images", str(photographs), "--out", str(tmp_path / "out"), "--plan", *FLAGS]
    backbone = ["--backbone", "vit_small_patch16_dinov3.lvd1689m", "--patch-features", "keys"]
    (tmp_path / "maps").mkdir()
    code = main([*options, *backbone, "--label-maps", str(tmp_path / "maps"), "--weights", str(tmp_path / "gone.pth")])
    said = " ".join(capsys.readouterr().out.split())
    assert code == 1
    assert "gone.pth is not a file" in said
    assert "label_maps: 8 of 8 images looked at have none" in said
    assert main([*options, *backbone]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "weights of vit_small_patch16_dinov3.lvd1689m are not on this machine" in said
    assert "8, 8 with an original label" in said
    assert not (tmp_path / "out").exists()
