"""A pool of Ray actors on all machines of a cluster; every machine must see images and output under the same paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from build.config.options import ConfigError
from build.engines.scheduler import Outcome, Pool
from build.engines.worker import StageWorker
from build.stage import Stage
from build.state.plan import Unit

__all__ = ["RayPool", "connected"]

_PACKAGES = ("build", "mlimagenet_data")


def connected(address: str | None) -> Any:
    """Connect to a cluster, or start one on this machine if no address is given, and return the `ray` module.

    Raises:
        ConfigError: If Ray is not installed, or the address has no cluster.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("engine: Ray is not installed; run pip install 'mlimagenet-data[ray]'") from error
    if not ray.is_initialized():
        root = Path(__file__).parents[2]
        here = {"env_vars": {"PYTHONPATH": str(root)}}
        elsewhere = {"py_modules": [str(root / name) for name in _PACKAGES]}
        try:
            ray.init(address, runtime_env=elsewhere if address else here, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"address: no Ray cluster at {address}: {error}") from error
    return ray


class RayPool(Pool):
    """One actor per GPU of the cluster, or per CPU if it has no GPU; more as the cluster grows.

    Args:
        stage: The stage to run.
        count: Maximum number of actors; 0: limited by the cluster's room only.
        address: The cluster's address; None for a cluster on this machine.
    """

    def __init__(self, stage: Stage, count: int, address: str | None) -> None:
        self._ray = connected(address)
        self._stage, self._count = stage, count
        uses_gpus = stage.plan.config.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) > 0
        self._unit_resource = "GPU" if uses_gpus else "CPU"
        options: dict[str, Any] = {"num_gpus": 1} if uses_gpus else {"num_cpus": 1}
        # the scheduler restarts actors, because it counts restarts against the unit
        self._actor = self._ray.remote(max_restarts=0, max_task_retries=0, **options)(StageWorker)
        self._pending: dict[Any, Any] = {}  # reference of a running call -> its actor
        self._actors: set[Any] = set()
        self._starting: dict[Any, Any] = {}  # reference that is ready once an actor runs -> the actor

    def size(self) -> int:
        """Return the number of actors that the cluster has room for now."""
        room = int(self._ray.cluster_resources().get(self._unit_resource, 0))
        return min(self._count, room) if self._count else room

    def start(self) -> Any:
        """Start an actor."""
        plan = self._stage.plan
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        threads = max(1, cpus // max(1, self.size())) if self._unit_resource == "GPU" else 1
        actor = self._actor.remote(type(self._stage), plan.config, plan.lease, threads)
        self._actors.add(actor)
        self._starting[actor.__ray_ready__.remote()] = actor
        return actor

    def submit(self, worker: Any, unit: Unit) -> None:
        """Call an actor with a unit."""
        self._pending[worker.run.remote(unit)] = worker

    def wait(self, seconds: float) -> list[Outcome]:
        """Wait for a call to end. Actors waiting for room that the cluster no longer has count as lost."""
        from ray.exceptions import RayError, RayTaskError

        ready, _ = self._ray.wait(list(self._pending), timeout=seconds)
        found = []
        for reference in ready:
            worker = self._pending.pop(reference)
            try:
                self._ray.get(reference)
                found.append(Outcome(worker, None))
            except RayTaskError as error:
                cause = error.cause
                found.append(Outcome(worker, f"{type(cause).__name__}: {cause}"))
            except RayError as error:
                reason = str(error).strip().splitlines()
                found.append(Outcome(worker, f"{type(error).__name__}: {reason[0] if reason else ''}", is_lost=True))
                self.stop(worker)
        return found + self._without_room()

    def _without_room(self) -> list[Outcome]:
        """Give up actors that have not started, as far as there are more actors than the cluster has room for.

        After Ray reports the actors of a lost machine as dead, it still counts the machine's room for a moment. An
        actor started then would wait, together with its unit, until the cluster grows again.
        """
        if not self._starting:
            return []
        _, waiting = self._ray.wait(list(self._starting), num_returns=len(self._starting), timeout=0)
        self._starting = {reference: self._starting[reference] for reference in waiting}
        surplus = max(0, len(self._actors) - max(1, self.size()))
        lost = [self._starting[reference] for reference in waiting[:surplus]]
        for actor in lost:
            self.stop(actor)
        return [Outcome(actor, "the cluster has no room for another worker", is_lost=True) for actor in lost]

    def stop(self, worker: Any) -> None:
        """Kill the actor."""
        self._pending = {reference: other for reference, other in self._pending.items() if other is not worker}
        self._starting = {reference: other for reference, other in self._starting.items() if other is not worker}
        self._actors.discard(worker)
        self._ray.kill(worker)
