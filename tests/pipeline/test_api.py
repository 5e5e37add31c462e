"""Builds from Python: `relabel`, `status`, `verify`; and the verbs that print the last two."""

import json
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

import build
from build.api import BuildReport, relabel, status, verify
from build.config.options import STAGES, BuildConfig, ConfigError
from build.run import main

SMALL = {"image_size": 96, "scan_size": 0, "shard_size": 3}


@pytest.fixture(scope="module")
def report(tmp_path_factory, photographs):
    """The report of a small build. Its dataset is read, never written."""
    out = tmp_path_factory.mktemp("api") / "mlimagenet"
    return relabel(BuildConfig(images=str(photographs), out=str(out), **SMALL))


@pytest.fixture
def copied(report, tmp_path):
    return shutil.copytree(report.out, tmp_path / "mlimagenet")


def test_the_package_exports_relabel_and_its_configuration():
    assert build.relabel is relabel
    assert build.BuildConfig is BuildConfig
    with pytest.raises(AttributeError, match="'build' has no attribute 'main'"):
        _ = build.main


def test_relabel_returns_the_published_counts(report):
    assert isinstance(report, BuildReport)
    (file,) = (report.out / "data").iterdir()
    rows = pq.read_table(file).to_pylist()
    split = report.split
    assert split == json.loads((report.out / "build_manifest.json").read_text())["splits"]["train"]
    assert split["rows"] == len(rows) == len(report.plan.listing.images) == 8
    assert split["regions"] == sum(len(row["regions"]) for row in rows) > 0
    assert split["labels"] == sum(len(row["labels"]) for row in rows) > 0
    assert sum(split["statuses"].values()) == 8
    assert split["with_original_label"] == 8
    assert report.missing_rows == 0
    assert list(report.stages) == list(STAGES)
    assert [(run.units, run.skipped) for run in report.stages.values()] == [(3, 0), (1, 0), (3, 0), (1, 0)]
    assert report.seconds >= sum(run.seconds for run in report.stages.values()) > 0


def test_relabel_resumes_what_is_done(copied, photographs):
    again = relabel(BuildConfig(images=str(photographs), out=str(copied), **SMALL))
    assert [(run.units, run.skipped) for run in again.stages.values()] == [(0, 3), (0, 1), (0, 3), (0, 1)]
    assert again.split["rows"] == 8


def test_a_stage_that_publishes_nothing_reports_no_counts(copied):
    found = relabel(BuildConfig(out=str(copied), stage="labels", label_threshold=0.3, **SMALL))
    assert list(found.stages) == ["labels"]
    assert (found.split, found.missing_rows) == ({}, 0)


def test_relabel_raises_what_the_command_prints(tmp_path):
    with pytest.raises(ConfigError, match="pass --images DIR or --demo"):
        relabel(BuildConfig(out=str(tmp_path / "out")))


def test_status_tells_how_far_a_build_is(copied, capsys):
    (found,) = status(str(copied))
    assert (found.split, found.images) == ("train", 8)
    assert found.statuses == {"ok": 8}
    assert [(s.stage, s.units, s.done, s.left, s.reasons) for s in found.stages] == [
        ("regions", 3, 3, 0, {}), ("labeler", 1, 1, 0, {}), ("labels", 3, 3, 0, {}), ("publish", 1, 1, 0, {}),
    ]  # fmt: skip
    assert main(["status", str(copied)]) == 0
    text = capsys.readouterr().out
    assert f"{copied}, split train: 8 images" in text
    assert "  regions  3 of 3 units done\n" in text
    assert "images: ok 8" in text


def test_status_tells_what_a_run_would_do(copied, capsys):
    (copied / ".build/train/labels/00001.parquet.json").unlink()
    (found,) = status(str(copied))
    assert [s.left for s in found.stages] == [0, 0, 1, 1]
    assert found.stages[2].reasons == {"not done yet": 1}
    assert main(["status", str(copied)]) == 0
    assert "labels   2 of 3 units done; 1 not done yet" in capsys.readouterr().out


def test_status_lists_splits_by_name(copied, photographs):
    again = {"images": str(photographs / "train"), "split": "again", "limit": 2}
    relabel(BuildConfig(out=str(copied), stage="regions", **again, **SMALL))
    assert [(found.split, found.images) for found in status(str(copied))] == [("again", 2), ("train", 8)]


def test_options_that_an_earlier_version_had_do_not_matter_to_status_and_verify(copied):
    file = copied / ".build/train/run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "whole_image": True}))
    assert status(str(copied))[0].images == 8
    assert verify(str(copied)) == (8, [])


def test_verify_hashes_every_file(copied, capsys):
    assert verify(str(copied)) == (8, [])
    assert main(["verify", str(copied)]) == 0
    text = capsys.readouterr().out
    assert f"{copied}: 8 units hashed" in text
    assert "no file has changed" in text


def test_verify_names_the_files_that_changed(copied, capsys):
    file = copied / ".build/train/regions/00001.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    units, faults = verify(str(copied))
    assert units == 8
    assert faults == [f"{file}: file damaged: hash differs"]
    assert main(["verify", str(copied)]) == 1
    text = capsys.readouterr().out
    assert f"{file}: not finished" in text  # its entry is withdrawn, so that a run makes it again
    assert "1 files have changed; a run rebuilds them" in text


def test_verify_names_a_published_file_once_however_many_splits_there_are(copied, photographs):
    again = {"images": str(photographs / "train"), "split": "again", "limit": 2}
    relabel(BuildConfig(out=str(copied), **again, **SMALL))
    file = next((copied / "data").glob("train-*.parquet"))
    content = file.read_bytes()
    file.unlink()  # it may be a hard link to an intermediate result
    file.write_bytes(content[:-1])
    units, (fault,) = verify(str(copied))
    assert units == 8 + 4
    assert fault == f"{file}: file damaged: {len(content) - 1} bytes instead of {len(content)}"


def test_brackets_in_a_folders_name_are_printed(photographs, tmp_path, capsys):
    out = str(tmp_path / "old[/red]new[bold]")
    small = ["--limit", "2", "--image-size", "96", "--scan-size", "0"]
    assert main(["--images", str(photographs), "--out", out, *small]) == 0
    assert f"{out}, split train" in capsys.readouterr().out.replace("\n", "")
    for verb in ("status", "verify"):
        assert main([verb, out]) == 0
        assert out in capsys.readouterr().out
    bad = ["--stage", "publish", "--label-maps", "a[/red]b"]
    assert main(["--out", out, *bad]) == 0
    assert "label_maps was None, is now a[/red]b" in capsys.readouterr().out
    assert main(["--out", out, *small[2:], "--label-maps", "a[/red]b"]) == 1
    assert "label_maps was None, is now a[/red]b" in capsys.readouterr().out


@pytest.mark.parametrize("function", [status, verify])
def test_nothing_is_known_of_a_folder_without_a_build(tmp_path, function):
    with pytest.raises(ConfigError, match="no build was started there"):
        function(str(tmp_path))


def test_rows_that_are_missing_are_counted(report):
    assert replace(report, split={**report.split, "rows": 6}).missing_rows == 2
