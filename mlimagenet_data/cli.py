"""The command line: `mlimagenet SUBCOMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mlimagenet_data import __version__
from mlimagenet_data.commands import (
    audit,
    build,
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
    build,  # make a dataset
    info,  # get to know it
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
_EXIT_CODES = """\
exit codes:
  0    done; a check found nothing wrong
  1    an error, a check that found something, or nothing to work on
  2    wrong arguments
  130  stopped by Ctrl-C
  141  the reader of the output left before its end, as in `| head`"""
_STOPPED, _NO_READER = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit code (see `mlimagenet --help`). Errors are one line on standard error."""
    if arguments is None:  # this process is the command
        guard_terminal()
        arguments = sys.argv[1:]
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
        if sys.stdout is None:
            return _fail("standard output is closed; nothing was done")
    try:
        code = _run(list(arguments))
    except SystemExit:  # of --help, --version and wrong arguments
        if lost := _flush():
            return lost
        raise
    except KeyboardInterrupt:
        _flush()
        print("stopped", file=sys.stderr)
        return _STOPPED
    return _flush() or code


def _run(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["build"]:
            return build.run_build(arguments[1:])
        given = _parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int | None] = given.run
        return run(given) or 0
    except BrokenPipeError:
        return _flush() or _NO_READER
    except (MLImageNetError, ImportError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def _fail(reason: str) -> int:
    print(f"error: {printable(reason, sys.stderr.encoding)}".replace("\n", " "), file=sys.stderr)
    return 1


def _flush() -> int:
    """Write what is buffered; return the exit code for output that is lost, else 0."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # else the interpreter tries again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER if isinstance(error, BrokenPipeError) else _fail(f"standard output: {error.strerror}")
    return 0


class _Version(argparse.Action):
    """Prints the versions that a report of a fault needs, without importing torch."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from mlimagenet_data.files.reading import version_of

        torch = version_of("torch")
        print(f"mlimagenet-data {__version__}, Python {platform.python_version()}{f', torch {torch}' if torch else ''}")
        parser.exit()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mlimagenet",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Inspect, check, convert and publish multi-label, region-grounded annotations, prepare them for\n"
        "training, and evaluate classifiers. `mlimagenet COMMAND --help` explains a command and\ngives an example.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="Print the versions of this package, Python and torch."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    parser.set_defaults(parser=parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
