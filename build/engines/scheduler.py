"""Scheduling of units on workers that may fail, hang or vanish. A `Pool` implements one kind of worker."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from build.progress import console
from build.state.plan import Unit
from mlimagenet_data.errors import MLImageNetError

__all__ = ["Outcome", "Pool", "UnitsFailedError", "run_units"]

_WAIT = 1.0  # seconds between checks for hung workers


class UnitsFailedError(MLImageNetError, RuntimeError):
    """Units failed in all their tries; all other units are done."""


class Outcome(NamedTuple):
    """The outcome of a worker's unit.

    Attributes:
        worker: The worker.
        error: Why the unit failed; None if it is committed.
        is_lost: Whether the worker is gone.
    """

    worker: Any
    error: str | None
    is_lost: bool = False


class Pool(ABC):
    """Workers of one kind. A worker computes and commits one unit at a time."""

    @abstractmethod
    def size(self) -> int:
        """Return how many workers there should be now."""

    @abstractmethod
    def start(self) -> Any:
        """Start a worker and return it."""

    @abstractmethod
    def submit(self, worker: Any, unit: Unit) -> None:
        """Give a unit to an idle worker."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Outcome]:
        """Wait at most `seconds` for a worker to finish or vanish, and return the outcomes."""

    @abstractmethod
    def stop(self, worker: Any) -> None:
        """End a worker, whatever it is doing."""


@dataclass
class _State:
    waiting: deque[Unit]
    busy: dict[Any, tuple[Unit, float]] = field(default_factory=dict)  # worker -> its unit and when it started
    idle: list[Any] = field(default_factory=list)
    attempts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    failed: dict[str, str] = field(default_factory=dict)
    done: int = 0
    tries: float = 0.0
    reasons: set[str] = field(default_factory=set)


def run_units(
    pool: Pool, units: Sequence[Unit], *, attempts: int, timeout: float, on_done: Callable[[Unit], None]
) -> None:
    """Run units until each is done or has failed too often.

    Args:
        pool: The workers.
        units: The units, in the order in which to start them.
        attempts: Maximum tries per unit. A worker that vanishes or hangs counts as half a try, since the unit may not
            be the cause.
        timeout: Seconds after which a worker counts as hung; 0: never.
        on_done: Called with each unit that is done.

    Raises:
        UnitsFailedError: If units failed too often; the message names each with its last error. Or if nothing is done yet
            and the first `attempts` tries of every worker all ended alike: then all other units would, too.
    """
    state = _State(deque(units))
    try:
        while state.waiting or state.busy:
            _staff(pool, state)
            for outcome in pool.wait(_WAIT):
                _settle(state, outcome, attempts, on_done)
            _check_hopeless(state, attempts * max(1, pool.size()))
            for worker in [w for w, (_, since) in state.busy.items() if timeout and time.monotonic() - since > timeout]:
                pool.stop(worker)
                _settle(state, Outcome(worker, f"took more than {timeout:g} s", is_lost=True), attempts, on_done)
    finally:
        for worker in [*state.idle, *state.busy]:
            pool.stop(worker)
    if state.failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(state.failed.items()))
        raise UnitsFailedError(
            f"{len(state.failed)} of {len(units)} units failed ({reasons}); all other units are done. "
            "Run the same command to retry"
        )


def _check_hopeless(state: _State, tries: int) -> None:
    alike = not state.done and len(state.reasons) == 1 and len(state.attempts) > 1
    if alike and state.tries >= tries and (state.waiting or state.busy):
        raise UnitsFailedError(
            f"the first {state.tries:g} tries all failed alike, so the run stops: {state.reasons.pop()}. Nothing is "
            "done; mend the cause, and run the same command again"
        )


def _staff(pool: Pool, state: _State) -> None:
    """Give units to idle workers, and start workers while there is room and work for them."""
    while state.waiting:
        if not state.idle:
            if len(state.busy) >= max(1, pool.size()):
                return
            state.idle.append(pool.start())
        worker, unit = state.idle.pop(), state.waiting.popleft()
        state.busy[worker] = (unit, time.monotonic())
        pool.submit(worker, unit)


def _settle(state: _State, outcome: Outcome, attempts: int, on_done: Callable[[Unit], None]) -> None:
    if outcome.worker not in state.busy:
        return
    unit, _ = state.busy.pop(outcome.worker)
    if not outcome.is_lost:
        state.idle.append(outcome.worker)
    if outcome.error is None:
        state.done += 1
        on_done(unit)
        return
    state.tries += 0.5 if outcome.is_lost else 1.0
    state.reasons.add(outcome.error)
    state.attempts[unit.file] += 0.5 if outcome.is_lost else 1.0
    if state.attempts[unit.file] < attempts:
        console.print(f"  {unit.file} failed, will retry: {outcome.error}", markup=False)
        state.waiting.append(unit)
    else:
        console.print(f"  {unit.file} failed, giving up: {outcome.error}", markup=False)
        state.failed[unit.file] = outcome.error
