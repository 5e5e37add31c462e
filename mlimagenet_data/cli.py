"""The command line: `mlimagenet SUBCOMMAND`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from mlimagenet_data.commands import (
    audit,
    compare,
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
from mlimagenet_data.errors import MLImageNetError
from mlimagenet_data.files.printing import ArgumentParser, guard_terminal, printable

__all__ = ["main"]

_COMMANDS = (
    info,  # get to know a dataset
    verify,
    join,
    show,  # look at it
    view,
    labels,
    stats,
    audit,
    materialize,  # use it
    evaluation,
    compare,
    import_,  # convert and publish it
    export,
    push,
    completion,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand. Return its exit code, or 1 after printing an error."""
    if arguments is None:  # this process is the command
        guard_terminal()
    given = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], int | None] = given.run
        return run(given) or 0
    except BrokenPipeError:  # `mlimagenet labels ... | head`: the reader is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MLImageNetError, OSError, ImportError) as error:
        print(f"error: {printable(str(error), sys.stderr.encoding)}", file=sys.stderr)
        return 1


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mlimagenet",
        description="Inspect, check, convert and publish multi-label, region-grounded annotations, prepare them for "
        "training, and evaluate classifiers. `mlimagenet COMMAND --help` explains a command and gives an example.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    parser.set_defaults(parser=parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
