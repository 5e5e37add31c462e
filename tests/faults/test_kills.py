"""Builds that are killed, refused, or given damaged files end with the bytes of an undisturbed one."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.run import main
from build.state.lock import sole_run
from build.state.output import open_output
from tests.faults.harness import SMALL, SMALL_FLAGS, KillAt, SmallFiles, finish, leftovers, result, start

pytestmark = pytest.mark.slow


def build(photographs, out, **options):
    return relabel(BuildConfig(images=str(photographs), out=str(out), **SMALL, **options))


def copied(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "mlimagenet")


def test_builds_killed_while_writing_resume_to_the_same_result(tmp_path, photographs, undisturbed):
    steps, kills = np.random.default_rng(0), 0
    for round_number in range(2):
        out = tmp_path / f"mlimagenet{round_number}"
        while (code := finish(start(photographs, out, setup=KillAt(int(steps.integers(1, 50)))))) != 0:
            assert code == -signal.SIGKILL, Path(f"{out}.log").read_text()[-2000:]
            kills += 1
            assert kills < 80
        assert result(out) == result(undisturbed)
        assert not leftovers(out)
        assert "did not finish; resuming" in Path(f"{out}.log").read_text()
    assert kills >= 6


def test_builds_killed_at_any_moment_resume_to_the_same_result(tmp_path, photographs, undisturbed):
    began = time.monotonic()
    assert finish(start(photographs, tmp_path / "warm")) == 0
    whole = time.monotonic() - began
    moments, kills, rounds = np.random.default_rng(1), 0, 0
    while kills < 8:
        rounds += 1
        assert rounds < 12, f"{kills} kills"
        out = tmp_path / f"mlimagenet{rounds}"
        for _ in range(6):
            process = start(photographs, out)
            process.join(float(moments.uniform(0.1, 0.7)) * whole)
            process.kill()
            if finish(process) == 0:  # it was quicker
                break
            assert process.exitcode == -signal.SIGKILL, Path(f"{out}.log").read_text()[-2000:]
            kills += 1
        assert finish(start(photographs, out)) == 0
        assert result(out)[0] == result(undisturbed)[0]


def test_builds_killed_and_restarted_with_other_options_end_in_the_same_bytes(tmp_path, photographs, undisturbed):
    options = [
        (), ("--tau", "0.5"), ("--label-threshold", "0.4", "--top-k", "3"), ("--processes", "2", "--device", "cpu"),
        ("--stage", "regions", "--tau", "0.6"), ("--stage", "labels", "--unconfirmed", "drop"), ("--stage", "publish"),
        ("--stage", "regions", "--num-shards", "2", "--shard-index", "1"), ("--shard-size", "3"), ("--split", "val"),
    ]  # fmt: skip
    chance, out, ends = np.random.default_rng(3), tmp_path / "mlimagenet", set()
    for round_number in range(16):
        chosen = options[round_number % len(options)]
        process = start(photographs, out, *chosen, setup=KillAt(int(chance.integers(1, 80))))
        ends.add(finish(process))
        assert ends <= {0, 1, -signal.SIGKILL}  # done, refused, killed
        log = Path(f"{out}.log").read_text()
        assert "Traceback" not in log
    assert ends >= {0, -signal.SIGKILL}
    defaults = ("tau", "label_threshold", "top_k", "unconfirmed", "shard_size")  # or the last run's would be kept
    given = [
        word for name in defaults for word in (f"--{name.replace('_', '-')}", str(getattr(BuildConfig(**SMALL), name)))
    ]
    assert finish(start(photographs, out, *given)) == 0
    assert result(out)[0].items() >= {k: v for k, v in result(undisturbed)[0].items() if k != "README.md"}.items()
    assert result(out)[1]["splits"]["train"] == result(undisturbed)[1]["splits"]["train"]
    assert main(["verify", str(out)]) == 0


@pytest.mark.parametrize("size", [2_000, 20_000])
def test_the_build_after_a_full_disk_resumes(tmp_path, photographs, undisturbed, size):
    out = tmp_path / "mlimagenet"
    assert finish(start(photographs, out, setup=SmallFiles(size))) == 1
    log = out.with_name("mlimagenet.log").read_text()
    assert "error:" in log
    assert "too large" in log
    assert not leftovers(out)
    assert finish(start(photographs, out)) == 0
    assert result(out) == result(undisturbed)


def test_the_error_for_an_unwritable_output_names_it(photographs, capsys):
    assert main(["--images", str(photographs), "--out", "/proc/mlimagenet", *SMALL_FLAGS]) == 1
    assert "/proc/mlimagenet" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["regions", "labeler", "labels", "publish"])
@pytest.mark.parametrize("damage", ["cut off", "one bit", "gone", "entry cut off"])
def test_damaged_results_are_detected_and_rebuilt(tmp_path, photographs, undisturbed, stage, damage, capsys):
    out = copied(undisturbed, tmp_path)
    file = sorted(p for p in (out / ".build" / "train" / stage).iterdir() if p.suffix != ".json")[-1]
    if damage == "entry cut off":
        file = file.with_name(f"{file.name}.json")
    content = bytearray(file.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 4
    file.unlink()  # what is published may be a hard link to it
    if damage != "gone":
        file.write_bytes(content[: len(content) // 2] if "cut off" in damage else content)
    copy = shutil.copytree(out, tmp_path / "copy")
    assert main(["verify", str(copy)]) == 1
    assert file.name.removesuffix(".json") in capsys.readouterr().out
    build(photographs, out)
    text = capsys.readouterr().out
    reason = {
        "cut off": "bytes instead of", "one bit": "file damaged: hash differs", "gone": "file missing",
        "entry cut off": "1 not done yet",
    }[damage]  # fmt: skip
    assert reason in text
    assert result(out) == result(undisturbed)
    assert main(["verify", str(out)]) == 0


def test_a_changed_published_file_is_detected_and_restored(tmp_path, photographs, undisturbed, capsys):
    out = copied(undisturbed, tmp_path)
    (file,) = (out / "data").iterdir()
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-1] + b"x")
    assert main(["verify", str(out)]) == 1
    assert "1 files have changed; a run rebuilds them" in capsys.readouterr().out
    build(photographs, out)
    assert result(out) == result(undisturbed)


def test_an_unreadable_image_in_each_shard_has_a_status(tmp_path, photographs):
    images = shutil.copytree(photographs, tmp_path / "images")
    files = sorted(images.rglob("*.png"))
    for k in (1, 5, 9):
        files[k].write_bytes(b"no image")
    out = tmp_path / "mlimagenet"
    assert finish(start(images, out)) == 0
    (split,) = result(out)[1]["splits"].values()
    assert split["statuses"]["unreadable"] == 3
    assert {failure["file_name"] for failure in split["failures"]} == {
        str(files[k].relative_to(images)) for k in (1, 5, 9)
    }
    assert split["rows"] == 12


def test_a_second_build_on_the_same_output_is_refused(tmp_path, photographs):
    out = tmp_path / "mlimagenet"
    part = {"stage": "regions", "num_shards": 2}
    another = rf"another run \(process {os.getpid()} on "
    open_output(BuildConfig(images=str(photographs), out=str(out)), [])
    with sole_run(out / ".build" / "train"):
        with pytest.raises(ConfigError, match=another):
            build(photographs, out)
        with pytest.raises(ConfigError, match=another):
            build(photographs, out, shard_index=1, **part)
        build(photographs, out, split="val")
    with sole_run(out / ".build" / "train", (1, 2)):
        with pytest.raises(ConfigError, match=r"the run of part 1 of 2 \(process"):
            build(photographs, out)
        build(photographs, out, shard_index=0, **part)


def test_parts_in_any_order_make_the_same_dataset(tmp_path, photographs, undisturbed, capsys):
    out = tmp_path / "mlimagenet"
    for stage in ("regions", "labels"):
        for index in (2, 0, 1):
            build(photographs, out, stage=stage, num_shards=3, shard_index=index)
            assert f"{stage}: 1 of 1 units to do" in capsys.readouterr().out
        if stage == "regions":
            assert main(["status", str(out)]) == 0
            assert "regions  3 of 3 units done" in capsys.readouterr().out
            build(photographs, out, stage="labeler")
    build(photographs, out, stage="publish")
    assert result(out) == result(undisturbed)


def test_a_run_first_prints_what_it_will_redo_and_why(tmp_path, photographs, undisturbed, capsys):
    out = copied(undisturbed, tmp_path)
    assert main(["--images", str(photographs), "--out", str(out), *SMALL_FLAGS, "--tau", "0.4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    plan = lines[2:6]
    assert plan[0] == "  regions  0 of 3 units done; 3 changed: tau was 0.3, is now 0.4"
    assert plan[1] == "  labeler  0 of 1 units done; 1 if the output of regions changes"
    assert lines[6].startswith("regions: 3 of 3 units to do")
    assert main(["status", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.count("units done") == 4
    assert "to do" not in text
    assert "images: ok 12" in text


def test_the_status_of_a_missing_build_is_an_error(tmp_path, capsys):
    for option in ("status", "verify"):
        assert main([option, str(tmp_path)]) == 1
        assert "no build was started there" in capsys.readouterr().out
