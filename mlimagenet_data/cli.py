"""`mlimagenet`: looks at annotations from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from mlimagenet_data.commands import audit, export, push, stats, view
from mlimagenet_data.commands import eval as evaluation
from mlimagenet_data.errors import MLImageNetError

__all__ = ["main"]

_COMMANDS = (stats, view, audit, evaluation, export, push)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after an error that was printed."""
    given = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], None] = given.run
        run(given)
    except (MLImageNetError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlimagenet", description="Looks at multi-label, region-grounded annotations."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
