"""Workers that die, hang, fail or vanish do not change what comes out, unless a unit fails each time."""

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.engines.ray_pool import RayPool
from build.engines.runner import run_stage
from build.engines.scheduler import Outcome, Pool, UnitsFailedError, run_units
from build.state.output import open_output
from build.state.plan import Unit, make_plan
from tests.faults.flaky import FlakyRegions
from tests.faults.harness import SMALL, result
from tests.support.children import CONTEXT, seconds_to_start
from tests.support.leases import lease_for


class FakePool(Pool):
    """Workers that do as a script says: for each unit, a list of what its tries come to."""

    def __init__(self, script, count):
        self.script, self.count = {unit: list(tries) for unit, tries in script.items()}, count
        self.alive, self.running, self.tries, self.number = set(), {}, Counter(), 0

    def size(self):
        return self.count

    def start(self):
        self.number += 1
        self.alive.add(self.number)
        assert len(self.alive) <= self.count
        return self.number

    def submit(self, worker, unit):
        assert worker in self.alive
        assert worker not in self.running
        self.running[worker] = unit

    def wait(self, seconds):
        worker = next(iter(self.running))
        unit = self.running.pop(worker)
        self.tries[unit.file] += 1
        fate = self.script[unit.file].pop(0) if self.script[unit.file] else "done"
        if fate == "lost":
            self.alive.discard(worker)
        error = None if fate == "done" else f"{fate}, because {self.why(unit)}"
        return [Outcome(worker, error, is_lost=fate == "lost")]

    def why(self, unit):
        return f"{unit.file} does so"

    def stop(self, worker):
        self.alive.discard(worker)
        self.running.pop(worker, None)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["error", "lost"]), max_size=5), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_each_unit_is_done_once_or_fails_in_all_its_tries(fates, workers, attempts):
    units = [Unit(f"{k}", k, k + 1) for k in range(len(fates))]
    pool, done = FakePool({unit.file: fate for unit, fate in zip(units, fates, strict=True)}, workers), []
    weight = {"error": 1.0, "lost": 0.5}  # a worker that vanished need not be the unit's fault
    tries = {}
    for unit, fate in zip(units, fates, strict=True):
        used = [sum(weight[what] for what in fate[: k + 1]) for k in range(len(fate))]
        tries[unit.file] = next((k + 1 for k, total in enumerate(used) if total >= attempts), 0)
    expected_failures = {name for name, count in tries.items() if count}
    failed = ""
    try:
        run_units(pool, units, attempts=attempts, timeout=0, on_done=done.append)
    except UnitsFailedError as error:
        failed = str(error)
    assert bool(failed) == bool(expected_failures)
    assert sorted(unit.file for unit in done) == sorted({unit.file for unit in units} - expected_failures)
    assert all(f"{name}: " in failed for name in expected_failures)
    assert all(pool.tries[u.file] == (tries[u.file] or len(f) + 1) for u, f in zip(units, fates, strict=True))
    assert not pool.alive  # all are stopped in the end


@pytest.mark.parametrize("fate", ["error", "lost"])
def test_a_run_stops_when_all_its_first_tries_fail_alike(fate):
    units, done = [Unit(f"{k}", k, k + 1) for k in range(5000)], []
    pool = FakePool({unit.file: [fate] * 9 for unit in units}, 2)
    pool.why = lambda unit: "weights.pth is missing"
    with pytest.raises(UnitsFailedError, match=r"the first 6 tries all failed alike.*weights.pth is missing"):
        run_units(pool, units, attempts=3, timeout=0, on_done=done.append)
    assert sum(pool.tries.values()) == (6 if fate == "error" else 12)
    assert not done
    assert not pool.alive


def test_a_run_goes_on_when_something_is_done_or_the_reasons_differ():
    units = [Unit(f"{k}", k, k + 1) for k in range(20)]
    for why in (lambda unit: unit.file, lambda unit: "it does so"):
        script = {unit.file: ["error"] * 9 for unit in units}
        if why(units[0]) == "it does so":
            script["1"] = []
        pool, done = FakePool(script, 1), []
        pool.why = why
        with pytest.raises(UnitsFailedError, match="of 20 units failed"):
            run_units(pool, units, attempts=2, timeout=0, on_done=done.append)


def flaky_stage(photographs, out, faults, **options):
    """Return a regions stage whose units go wrong: {unit: (fault, times)}."""
    config = BuildConfig(images=str(photographs), out=str(out), **SMALL, **options)
    open_output(config, [])
    plan = make_plan(config, str(photographs), lease_for(out / ".build" / "train"))
    for unit, (fault, times) in faults.items():
        (plan.work / f"{unit}.{fault}").write_text(str(times))
    return FlakyRegions(plan)


def finished(photographs, out):
    """Return the result of a build that resumes from what the stage has done."""
    relabel(BuildConfig(images=str(photographs), out=str(out), **SMALL))
    return result(out)


@pytest.fixture
def quick(monkeypatch):
    """Workers that are forked where all is imported, but nothing run, instead of ones that import it themselves."""
    monkeypatch.setattr("build.engines.processes._CONTEXT", CONTEXT)


@pytest.mark.slow
def test_processes_that_die_hang_or_run_out_of_memory_change_nothing(tmp_path, photographs, undisturbed, quick, capsys):
    faults = {"00000.parquet": ("die", 1), "00001.parquet": ("memory", 1), "00002.parquet": ("hang", 1)}
    limit = 5.0 + 3 * round(seconds_to_start())  # a unit takes half a second when nothing else runs
    stage = flaky_stage(photographs, tmp_path, faults, processes=2, device="cpu", unit_timeout=limit)
    assert run_stage(stage).units == 3
    text = capsys.readouterr().out
    assert "00000.parquet failed, will retry: its process exited with code -9" in text
    assert "00001.parquet failed, will retry: MemoryError: no memory is left" in text
    assert f"00002.parquet failed, will retry: took more than {limit:g} s" in text
    assert finished(photographs, tmp_path) == result(undisturbed)
    assert "regions: nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_a_unit_that_always_fails_is_named_and_all_others_are_done(tmp_path, photographs, undisturbed, quick):
    faults = {"00001.parquet": ("error", 2)}
    stage = flaky_stage(photographs, tmp_path, faults, processes=2, device="cpu", attempts=2)
    with pytest.raises(UnitsFailedError, match=r"1 of \d units failed \(00001.parquet: ValueError: something is wrong"):
        run_stage(stage)
    ledger = stage.plan.ledger("regions")
    assert list(ledger.entries()) == ["00000.parquet", "00002.parquet"]
    assert finished(photographs, tmp_path) == result(undisturbed)


@pytest.mark.slow
def test_processes_make_the_same_bytes(tmp_path, photographs, undisturbed):  # spawned, as users have them
    processes = {"processes": 2, "device": "cpu"}
    relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "out"), **SMALL, **processes))
    assert result(tmp_path / "out") == result(undisturbed)
    entries = sorted((tmp_path / "out" / ".build" / "train" / "regions").glob("*.parquet.json"))
    assert [json.loads(entry.read_text())["entry"]["rows"] for entry in entries] == [4, 4, 4]


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two machines with a CPU each, and the one that is not its head."""
    pytest.importorskip("ray", reason="needs the extra ray")
    import ray
    from ray.cluster_utils import Cluster

    root = str(Path(__file__).parents[2])
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", root)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False, logging_level="error")
    yield cluster, node
    ray.shutdown()
    cluster.shutdown()
    patch.undo()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_makes_the_same_bytes_and_survives_the_loss_of_a_node(tmp_path, photographs, undisturbed, cluster, capsys):
    ray_cluster, node = cluster
    ray = {"engine": "ray", "device": "cpu", "processes": 1}
    relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "whole"), **SMALL, **ray))
    assert result(tmp_path / "whole") == result(undisturbed)

    faults = {"00000.parquet": ("wait", 1), "00001.parquet": ("wait", 1)}  # both nodes are busy when one goes
    stage = flaky_stage(photographs, tmp_path / "lossy", faults, engine="ray", device="cpu", unit_timeout=300.0)

    def lose_a_node_when_both_are_busy():
        while len(busy := list(stage.plan.work.glob("*.busy"))) < 2:
            time.sleep(0.1)
        workers = [psutil.Process(int(path.stem)) for path in busy]
        ray_cluster.remove_node(node, allow_graceful=False)
        while all(is_alive(worker) for worker in workers):
            time.sleep(0.1)
        (stage.plan.work / "go").touch()  # the other node does its unit, and then all that are left

    loser = threading.Thread(target=lose_a_node_when_both_are_busy)
    loser.start()
    assert run_stage(stage).units == 3
    loser.join()
    text = capsys.readouterr().out
    assert "ActorDiedError" in text or "ActorUnavailableError" in text
    assert "took more than" not in text
    assert finished(photographs, tmp_path / "lossy") == result(undisturbed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_actor_without_room_in_the_cluster_is_given_up(tmp_path, photographs, cluster):
    import ray

    nodes = len(cluster[0].list_all_nodes())  # of one CPU each
    deadline = time.monotonic() + 120
    while ray.cluster_resources()["CPU"] != nodes:  # Ray counts a node that another test removed for about 16 seconds
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stage = flaky_stage(photographs, tmp_path, {}, engine="ray", device="cpu")
    pool = RayPool(stage, 0, None)
    room = pool.size()
    assert room == nodes >= 1
    workers = [pool.start() for _ in range(room + 1)]
    for worker, unit in zip(workers, stage.plan.shards, strict=False):
        pool.submit(worker, unit)
    found = []
    while not any(outcome.is_lost for outcome in found):
        found += pool.wait(1.0)
    (lost,) = [outcome for outcome in found if outcome.is_lost]
    assert "no room for another worker" in lost.error
    while len(found) < room + 1:  # the others do their units
        found += pool.wait(1.0)
    assert [outcome.error for outcome in found if outcome is not lost] == [None] * room
    for worker in workers:
        pool.stop(worker)


def test_the_error_without_ray_tells_how_to_install_it(tmp_path, photographs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"mlimagenet-data\[ray\]"):
        relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "out"), engine="ray", **SMALL))
