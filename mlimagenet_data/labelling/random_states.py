"""The states of the global random number generators of Python, NumPy and PyTorch (its CPU generator)."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["RandomStates"]


class RandomStates(NamedTuple):
    """The states at one moment."""

    torch_state: torch.Tensor
    python_state: Any
    numpy_state: Any

    @classmethod
    def now(cls) -> RandomStates:
        """Return the present states."""
        return cls(torch.get_rng_state(), random.getstate(), np.random.get_state())

    @classmethod
    def seeded(cls, seed: int) -> RandomStates:
        """Return the states after seeding all three, and leave the present ones as they are."""
        before = cls.now()
        try:
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            return cls.now()
        finally:
            before.restore()

    def restore(self) -> None:
        """Make these the present states."""
        torch.set_rng_state(self.torch_state)
        random.setstate(self.python_state)
        np.random.set_state(self.numpy_state)
