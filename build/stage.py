"""The interface of a stage. Engines run stages through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from build.state.ledger import UnitOutput
from build.state.plan import Plan, Unit
from mlimagenet_data.annotations.schema import SCHEMA_VERSION

__all__ = ["Stage"]


class Stage(ABC):
    """A step of the method. It defines its units, what they depend on, and how to compute one; an engine runs it."""

    name: ClassVar[str]
    method: ClassVar[int] = 1  # increase it when the same settings give other results, so that old ones become stale
    in_workers: ClassVar[bool] = False  # whether its units are worth spreading over processes and machines

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def units(self) -> list[Unit]:
        """Return the units; by default one per shard of images."""
        return self.plan.shards

    def settings(self) -> dict[str, Any]:
        """Return everything but the inputs that the stage's output depends on."""
        return {"schema": SCHEMA_VERSION, "method": self.method, **self.plan.config.stage_settings(self.name)}

    @abstractmethod
    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Return the hash of everything that the unit's output depends on, including `settings`."""

    def why_again(self, unit: Unit) -> str | None:
        """Return why a unit that is done must be done again although settings and inputs look the same."""
        return None

    def check(self) -> None:
        """Raise ConfigError if what the units need is missing; called once, before any of them is computed."""

    @abstractmethod
    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Compute a unit; call `advance` with the number of images as they are finished."""

    def finish(self) -> None:
        """Do what remains once all units are committed; repeating it must be harmless."""

    def close(self) -> None:
        """Release the resources of computing (threads, models)."""
