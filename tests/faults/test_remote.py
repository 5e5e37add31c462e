"""Outputs in an object store: killed, failing, shared by machines, damaged; the bytes are those of an undisturbed local build."""

import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.run import main
from build.state import store_lock as leases
from build.state.lock import LeaseLostError, sole_run
from build.state.output import open_output
from build.state.remote import Remote
from mlimagenet_data.errors import OutputError, StateError
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
    if damage == "bit":  # of the right size: found when it is read where there is no good copy
        with pytest.raises(StateError, match="run the same command again"):
            build(photographs, store, tmp_path / "elsewhere", label_threshold=0.1)  # so that regions are read
    assert main(["verify", f"shelf://{store}"]) == 1
    assert "00001.parquet" in capsys.readouterr().out
    build(photographs, store, tmp_path / "elsewhere")
    assert main(["verify", f"shelf://{store}"]) == 0
    assert result(store) == result(undisturbed)


def test_one_run_at_a_time_writes_to_a_store(tmp_path, photographs):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    lock = tmp_path / "work/.build/train/locks/leases/run.json"
    open_output(BuildConfig(images="x", out=remote.url, work=str(remote.folder)), [])
    with leases.store_lock(remote, lock):
        refusal = pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* is writing to shelf://")
        with refusal, leases.store_lock(remote, lock):
            pass
        with pytest.raises(ConfigError, match="is writing to shelf://"):
            build(photographs, tmp_path / "store", tmp_path / "elsewhere")
    with leases.store_lock(remote, lock) as (_, was_held):
        assert not was_held


def test_a_lease_without_signs_of_life_is_stale(tmp_path, monkeypatch):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    work = tmp_path / "work/.build/train"
    lock = work / "locks/leases/run.json"
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "elsewhere")
    leases._sign(remote, lock, "another")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="on elsewhere"), leases.store_lock(remote, lock):
        pass
    long_ago = time.time() + 301
    monkeypatch.setattr(leases.time, "time", lambda: long_ago)
    with sole_run(work, None, remote) as lease:
        assert lease.earlier == f"a run that wrote to shelf://{tmp_path / 'store'}"
    assert leases.holder(remote, lock) is None


def test_one_of_two_simultaneous_runs_gives_way(tmp_path, monkeypatch):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    lock = tmp_path / "work/run.json"
    monkeypatch.setattr(leases.time, "sleep", lambda _: leases._sign(remote, lock, "the other"))
    with pytest.raises(ConfigError, match="another run"), leases.store_lock(remote, lock):
        pass
    assert leases.holder(remote, lock)["id"] == "the other"


def test_signs_of_life_continue_while_a_run_lasts(tmp_path, monkeypatch):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    lock = tmp_path / "work/run.json"
    monkeypatch.setattr(leases, "_BEAT", 0.01)
    with leases.store_lock(remote, lock):
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


def test_a_run_whose_lock_in_the_store_was_taken_commits_nothing_more(tmp_path):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    work = tmp_path / "work/.build/train"
    with sole_run(work, None, remote) as lease:
        with lease.held(remote):
            pass
        leases._sign(remote, work / "locks/leases/run.json", "the other")
        with pytest.raises(LeaseLostError, match="another run has taken over shelf://"), lease.held(remote):
            pytest.fail("held")
    assert leases.holder(remote, work / "locks/leases/run.json")["id"] == "the other"  # not removed with the lost run


def test_a_run_that_slept_does_not_take_its_lock_back(tmp_path, monkeypatch):
    remote = Remote(f"shelf://{tmp_path / 'store'}", tmp_path / "work")
    lock = tmp_path / "work/run.json"
    monkeypatch.setattr(leases, "_BEAT", 0.01)
    with leases.store_lock(remote, lock):
        leases._sign(remote, lock, "the other")
        time.sleep(0.2)
        assert leases.holder(remote, lock)["id"] == "the other"


@pytest.mark.parametrize("name", ["holiday.jpg", "README.md", "data/train-00000-of-00001.parquet"])
def test_a_store_that_holds_something_else_is_refused(tmp_path, photographs, name):
    foreign = tmp_path / "store" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("somebody's")
    with pytest.raises(OutputError, match="which this project did not write"):
        build(photographs, tmp_path / "store", tmp_path / "work")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == [foreign]


def test_a_foreign_object_in_the_way_is_named_and_kept(tmp_path, photographs):
    build(photographs, tmp_path / "store", tmp_path / "work", stage="regions")
    (tmp_path / "store" / "README.md").write_text("somebody's")
    with pytest.raises(OutputError, match=r"holds 'README\.md', which this project did not write"):
        build(photographs, tmp_path / "store", tmp_path / "work")
    assert (tmp_path / "store" / "README.md").read_text() == "somebody's"


def test_two_machines_publish_their_splits_into_one_manifest(tmp_path, photographs):
    for name in ("train", "val"):
        build(photographs, tmp_path / "store", tmp_path / f"machine-{name}", split=name)
    manifest = result(tmp_path / "store")[1]
    assert sorted(manifest["splits"]) == ["train", "val"]
    assert {"statistics/train.json", "statistics/val.json", "README.md"} <= {*manifest["files"]}
    assert main(["verify", f"shelf://{tmp_path / 'store'}"]) == 0


def test_a_store_that_was_emptied_is_filled_again_from_the_working_copy(tmp_path, photographs, undisturbed):
    build(photographs, tmp_path / "store", tmp_path / "work")
    shutil.rmtree(tmp_path / "store")
    build(photographs, tmp_path / "store", tmp_path / "work")
    assert result(tmp_path / "store") == result(undisturbed)
