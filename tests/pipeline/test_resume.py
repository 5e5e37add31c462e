import hashlib
import shutil

import pytest

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.run import main
from build.stages.regions import RegionsStage

SMALL = {"shard_size": 3, "image_size": 128, "scan_size": 0}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    relabel(BuildConfig(demo=True, out=str(out), **SMALL))
    return out


def published(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (out / "data").iterdir()}


def test_a_stopped_run_resumes(tmp_path, undisturbed, monkeypatch):
    out = tmp_path / "out"
    compute, done = RegionsStage.compute, []

    def stop_at_the_second(self, unit, advance):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(unit.file)
        return compute(self, unit, advance)

    monkeypatch.setattr(RegionsStage, "compute", stop_at_the_second)
    assert main(["--demo", "--out", str(out), "--shard-size", "3", "--image-size", "128", "--scan-size", "0"]) == 130
    assert not (out / "data").exists()

    def note(self, unit, advance):
        done.append(unit.file)
        return compute(self, unit, advance)

    monkeypatch.setattr(RegionsStage, "compute", note)
    relabel(BuildConfig(demo=True, out=str(out), **SMALL))
    assert done == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert published(out) == published(undisturbed)


def test_running_stages_one_by_one_makes_the_same_dataset(tmp_path, undisturbed):
    out = str(tmp_path / "out")
    assert not relabel(BuildConfig(demo=True, out=out, stage="regions", **SMALL)).split
    for stage in ("labeler", "labels", "publish"):
        relabel(BuildConfig(out=out, stage=stage, **SMALL))
    assert published(tmp_path / "out") == published(undisturbed)


def test_a_stage_without_its_predecessor_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"stage regions has not finished 00000\.parquet"):
        relabel(BuildConfig(demo=True, out=str(tmp_path / "out"), stage="labels"))


def test_a_damaged_shard_is_rebuilt(tmp_path, undisturbed, capsys):
    out = shutil.copytree(undisturbed, tmp_path / "out")
    shard = out / ".build" / "train" / "regions" / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-10])
    relabel(BuildConfig(demo=True, out=str(out), **SMALL))
    assert "regions: 1 of 3 units to do" in capsys.readouterr().out
    assert published(out) == published(undisturbed)
