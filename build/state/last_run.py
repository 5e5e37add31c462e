"""The options of a build's last run, kept beside its intermediate results: a build's settings are its own until changed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from build.config.options import BuildConfig, digest
from mlimagenet_data.errors import StateError
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.reading import read_json

__all__ = ["LAST_RUN", "kept_settings", "read_last_run", "write_last_run"]

LAST_RUN = "run.json"
_KEPT = ("unlabelled",)  # beside the options that change a stage's output


def write_last_run(work: Path, config: BuildConfig) -> Path:
    """Write a run's options into its folder of intermediate results; return the file."""
    options = config.as_dict()
    write_json(work / LAST_RUN, {"options": options, "sha256": digest(options)})
    return work / LAST_RUN


def read_last_run(path: Path) -> dict[str, Any]:
    """Return the options in a file, without those that this version does not know.

    Raises:
        StateError: If the file is damaged.
    """
    try:
        saved = read_json(path) or {}
        if digest(options := saved["options"]) != saved["sha256"]:
            raise ValueError("its hash differs")
        known = {option.name for option in fields(BuildConfig)}
        return {name: value for name, value in options.items() if name in known}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = "its hash is missing" if isinstance(error, KeyError) else error
        raise StateError(f"{path}: damaged: {reason}; delete it and run the same command again") from error


def kept_settings(config: BuildConfig, given: set[str]) -> dict[str, Any]:
    """Return the settings of the output's last run that differ from a configuration that does not give them.

    Args:
        config: The configuration of a new run.
        given: Names of the options that its user gave.

    Raises:
        StateError: If the last run's options are damaged.
    """
    with TemporaryDirectory() as empty:  # the working copy is not ours to fill before the output is opened
        folder = Path(empty) if config.is_remote else config.folder
        path = folder / ".build" / config.split / LAST_RUN
        if config.is_remote:
            from build.state.remote import Remote

            Remote(config.out, folder).pull(path)
        options = read_last_run(path) if path.exists() else {}
    if not options:
        return {}
    kept = {option.name for option in fields(BuildConfig) if option.metadata["stage"] or option.name in _KEPT} - given
    return {name: value for name, value in options.items() if name in kept and value != getattr(config, name)}
