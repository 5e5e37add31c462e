"""`mlimagenet completion`."""

from __future__ import annotations

import argparse
from typing import Any

from mlimagenet_data.commands.common import say

__all__ = ["add"]

_TEXT = """\
Print a shell script that completes commands and options. For bash, add `eval "$(mlimagenet completion bash)"` to
~/.bashrc. Needs shtab."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser("completion", help=_TEXT.partition(". ")[0], description=_TEXT)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="Shell to complete in.")
    parser.set_defaults(run=_completion)


def _completion(given: argparse.Namespace) -> None:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; pip install 'mlimagenet-data[completion]'") from error

    say(shtab.complete(given.parser, given.shell))
