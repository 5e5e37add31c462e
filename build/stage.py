"""A step of the method: what its units are, what they depend on, and how to compute one. An engine runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from build.state.ledger import UnitOutput
from build.state.plan import Plan, Unit
from mlimagenet_data.annotations.schema import SCHEMA_VERSION

__all__ = ["Stage"]


class Stage(ABC):
    """A step of the method. It knows what its units are, what they depend on and how to compute one; an engine runs it."""

    name: ClassVar[str]
    method: ClassVar[int] = (
        1  # raised when the code computes something else from the same settings, so that old results are stale
    )
    in_workers: ClassVar[bool] = False  # whether its units are worth processes, and machines, of their own

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def units(self) -> list[Unit]:
        """Return the units; by default one a shard of images."""
        return self.plan.shards

    def settings(self) -> dict[str, Any]:
        """Return what, besides its inputs, the stage's output depends on."""
        return {"schema": SCHEMA_VERSION, "method": self.method, **self.plan.config.stage_settings(self.name)}

    @abstractmethod
    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Return the hash of everything that the unit's output depends on, made with `settings`."""

    @abstractmethod
    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Compute a unit, calling `advance` with the number of images finished as they are."""

    def finish(self) -> None:
        """Do what remains when all units are committed; it must be harmless to repeat."""

    def close(self) -> None:
        """Release what computing took (threads, models)."""
