"""`mlimagenet push`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import command, say, say_json

__all__ = ["add"]

_TEXT = """\
Publishes a dataset folder on the Hugging Face Hub. An interrupted upload goes on when the command is run again. Log in with
`hf auth login` or set HF_TOKEN. Intermediate results of a build (.build/) stay here."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "push", _push, _TEXT)
    parser.add_argument("folder", type=Path, help="The dataset's folder.")
    parser.add_argument("repository", metavar="USER/NAME", help="The dataset's id on the Hub.")
    parser.add_argument("--private", action="store_true", help="Create it as a private one.")
    parser.add_argument("--tag", help="Name this revision so, such as v1.0.")
    parser.add_argument("--with-images", action="store_true", help="Publish rows that hold image files, too.")
    parser.add_argument("--dry-run", action="store_true", help="Only say what would be sent.")


def _push(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.hub import prepare, push

    publication = prepare(given.folder, with_images=given.with_images)
    address = None
    if not given.dry_run:
        address = push(publication, given.repository, private=given.private, tag=given.tag)
    if given.json:
        say_json({"files": publication.files, "address": address})
        return
    say(*(f"{size:>14,} {name}" for name, size in publication.files.items()))
    total = sum(publication.files.values())
    goal = f"published at {address}" if address else f"would be sent to {given.repository}"
    say(f"{total:>14,} bytes in {len(publication.files)} files {goal}")
