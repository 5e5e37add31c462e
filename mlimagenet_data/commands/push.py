"""`mlimagenet push`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from mlimagenet_data.commands.common import command, say, say_json
from mlimagenet_data.errors import MLImageNetError

__all__ = ["add"]

_TEXT = """\
Publish a dataset folder on the Hugging Face Hub. Log in with `hf auth login`, or set HF_TOKEN. Run the command again to
resume an interrupted upload. Only the files that build_manifest.json names are uploaded; they are checked first."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "push", _push, _TEXT)
    parser.epilog = "example: mlimagenet push DATASET USER/NAME --tag v1.0 --dry-run"
    parser.add_argument("folder", metavar="DATASET", type=Path, help="Dataset folder.")
    parser.add_argument("repository", metavar="USER/NAME", help="Name on the Hub.")
    parser.add_argument("--private", action="store_true", help="Create a private dataset.")
    parser.add_argument("--tag", help="Tag this revision, e.g. v1.0.")
    parser.add_argument("--with-images", action="store_true", help="Allow publishing rows that embed image files.")
    parser.add_argument("--dry-run", action="store_true", help="List the files without uploading them.")


def _push(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.hub import prepare, push

    if not re.fullmatch(r"(hf:)?[\w.-]+/[\w.-]+", given.repository):
        raise MLImageNetError(f"{given.repository}: must have the form USER/NAME")
    publication = prepare(given.folder, with_images=given.with_images)
    address = None
    if not given.dry_run:
        address = push(publication, given.repository, private=given.private, tag=given.tag)
    if given.json:
        say_json({"files": publication.files, "address": address})
        return
    say(*(f"{size:>14,} {name}" for name, size in publication.files.items()))
    total = sum(publication.files.values())
    goal = f"published at {address}" if address else f"would be uploaded to {given.repository}"
    say(f"{total:>14,} bytes in {len(publication.files)} files {goal}")
