"""`mlimagenet`: looks at annotations from the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from mlimagenet_data.commands import (
    audit,
    completion,
    export,
    import_,
    info,
    join,
    labels,
    materialize,
    push,
    show,
    stats,
    verify,
    view,
)
from mlimagenet_data.commands import eval as evaluation
from mlimagenet_data.commands.common import printable
from mlimagenet_data.errors import MLImageNetError

__all__ = ["main"]

_COMMANDS = (
    info,
    show,
    view,
    labels,
    stats,
    audit,
    verify,
    join,
    evaluation,
    import_,
    export,
    materialize,
    push,
    completion,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 after an error that was printed, or what the command found wrong."""
    given = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], int | None] = given.run
        return run(given) or 0
    except BrokenPipeError:  # `mlimagenet labels ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MLImageNetError, OSError, ImportError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlimagenet",
        description="Looks at multi-label, region-grounded annotations, checks, converts and publishes them, and measures "
        "classifiers against them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    parser.set_defaults(parser=parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
