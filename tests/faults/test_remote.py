"""Outputs in an object store: killed, failing, shared by machines, damaged; the bytes are those of an undisturbed local build."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.run import main
from build.state import lease as leases
from build.state.lease import lease
from build.state.lock import sole_run
from build.state.remote import Remote
from tests.faults.harness import SMALL, SMALL_FLAGS, finish, result, start
from tests.faults.shelf import Shelf, register, register_and_die

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    register()
    monkeypatch.setattr(leases, "_SETTLE", 0.01)
    monkeypatch.setenv("MLIMAGENET_CACHE", str(tmp_path / "cache"))


def build(photographs, store, work, **options):
    return relabel(BuildConfig(images=str(photographs), out=f"shelf://{store}", work=str(work), **SMALL, **options))


def build_by_command(photographs, store, work):
    return main(["--images", str(photographs), "--out", f"shelf://{store}", "--work", str(work), *SMALL_FLAGS])


def test_a_build_into_a_store_has_the_bytes_of_a_local_one(tmp_path, photographs, undisturbed):
    build(photographs, tmp_path / "store", tmp_path / "work")
    assert result(tmp_path / "store") == result(undisturbed)
    assert not list((tmp_path / "store").rglob("leases/*"))
    puts = Shelf.puts
    build(photographs, tmp_path / "store", tmp_path / "elsewhere")  # a machine that has nothing of it yet
    assert result(tmp_path / "store") == result(undisturbed)
    assert Shelf.puts - puts < 12  # nothing is computed again


def test_builds_killed_at_puts_resume_to_the_same_result(tmp_path, photographs, undisturbed):
    moments, kills = np.random.default_rng(2), 0
    for round_number in range(2):
        store = tmp_path / f"store{round_number}"
        log = tmp_path / f"work{round_number}"
        while True:
            die = partial(register_and_die, int(moments.integers(4, 26)))
            process = start(photographs, f"shelf://{store}", "--work", str(log), setup=die, log=f"{log}.log")
            if (code := finish(process)) == 0:
                break
            assert code == -signal.SIGKILL, Path(f"{log}.log").read_text()[-2000:]
            kills += 1
            assert kills < 40
        assert result(store) == result(undisturbed)
    assert kills >= 4


def test_the_run_after_a_store_failure_resumes(tmp_path, photographs, undisturbed, capsys):
    failures = 0
    for put in range(3, 20, 4):
        register()
        Shelf.fail_at = put
        failures += build_by_command(photographs, tmp_path / "store", tmp_path / "work") == 1
    assert failures >= 3
    assert "the store does not answer" in capsys.readouterr().out
    register()
    build(photographs, tmp_path / "store", tmp_path / "work")
    assert result(tmp_path / "store") == result(undisturbed)


def test_machines_that_share_only_the_store_build_their_parts(tmp_path, photographs, undisturbed, capsys):
    for k in range(2):
        part = {"stage": "regions", "num_shards": 2, "shard_index": k}
        build(photographs, tmp_path / "store", tmp_path / f"machine{k}", **part)
    build(photographs, tmp_path / "store", tmp_path / "third")
    assert result(tmp_path / "store") == result(undisturbed)
    assert "regions: nothing to do, all 3 units are done" in capsys.readouterr().out
    assert main(["status", f"shelf://{tmp_path / 'store'}"]) == 0
    assert "3 of 3 units done" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "gone", "bit"])
def test_damaged_objects_are_detected_and_rebuilt(tmp_path, photographs, undisturbed, damage, capsys):
    store = tmp_path / "store"
    build(photographs, store, tmp_path / "work")
    broken = store / ".build/train/regions/00001.parquet"
    content = bytearray(broken.read_bytes())
    content[40] ^= 1
    {
        "cut": lambda: broken.write_bytes(content[:-9]),
        "gone": broken.unlink,
        "bit": lambda: broken.write_bytes(content),
    }[damage]()
    assert main(["verify", f"shelf://{store}"]) == 1
    assert "00001.parquet" in capsys.readouterr().out
    if damage == "bit":  # of the right size: found when it is read where there is no good copy
        with pytest.raises(OSError, match="run the same command again"):
            build(photographs, store, tmp_path / "elsewhere", label_threshold=0.1)  # so that regions are read
    build(photographs, store, tmp_path / "elsewhere")
    assert main(["verify", f"shelf://{store}"]) == 0
    assert result(store) == result(undisturbed)


def test_one_run_at_a_time_writes_to_a_store(tmp_path, photographs):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    lock = tmp_path / "work/.build/train/locks/leases/run.json"
    with lease(remote, lock):
        refusal = pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* is writing to shelf://")
        with refusal, lease(remote, lock):
            pass
        with pytest.raises(ConfigError, match="is writing to shelf://"):
            build(photographs, tmp_path / "store", tmp_path / "elsewhere")
    with lease(remote, lock) as was_held:
        assert not was_held


def test_a_lease_without_signs_of_life_is_stale(tmp_path, monkeypatch):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    work = tmp_path / "work/.build/train"
    lock = work / "locks/leases/run.json"
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "elsewhere")
    leases._sign(remote, lock, "another")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="on elsewhere"), lease(remote, lock):
        pass
    long_ago = time.time() + 301
    monkeypatch.setattr(leases.time, "time", lambda: long_ago)
    with sole_run(work, None, remote) as stopped:
        assert stopped == f"a run that wrote to shelf://{tmp_path / 'store'}"
    assert leases.holder(remote, lock) is None


def test_one_of_two_simultaneous_runs_gives_way(tmp_path, monkeypatch):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    lock = tmp_path / "work/run.json"
    monkeypatch.setattr(leases.time, "sleep", lambda _: leases._sign(remote, lock, "the other"))
    with pytest.raises(ConfigError, match="another run"), lease(remote, lock):
        pass
    assert leases.holder(remote, lock)["id"] == "the other"


def test_signs_of_life_continue_while_a_run_lasts(tmp_path, monkeypatch):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    lock = tmp_path / "work/run.json"
    monkeypatch.setattr(leases, "_BEAT", 0.01)
    with lease(remote, lock):
        first = leases.holder(remote, lock)["beat"]
        deadline = time.monotonic() + 10
        while leases.holder(remote, lock)["beat"] == first:
            assert time.monotonic() < deadline


def test_unknown_file_systems_and_missing_packages_are_named():
    with pytest.raises(ConfigError, match=r"out: nonsense://x: Protocol not known: nonsense"):
        Remote("nonsense://x", Path("work"))
    assert BuildConfig(out="s3://bucket/x").folder != BuildConfig(out="s3://bucket/y").folder
    assert BuildConfig(out="s3://bucket/x/").folder == BuildConfig(out="s3://bucket/x").folder
    assert not BuildConfig(out="folder/x").is_remote
