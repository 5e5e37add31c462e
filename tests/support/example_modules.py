"""The modules of examples/, imported as `python examples/train.py` finds them."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import networks  # noqa: E402
import recipe  # noqa: E402
import targets  # noqa: E402
import train  # noqa: E402

__all__ = ["EXAMPLES", "networks", "recipe", "targets", "train"]
