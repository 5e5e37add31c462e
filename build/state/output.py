"""The dataset folder of a build: ours alone, and shared with the runs of other splits, maybe on other machines."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from build.config.options import BuildConfig, ConfigError
from build.progress import console
from build.state.plan import Plan, remote_of
from build.state.remote import Remote
from build.state.store_lock import store_lock
from mlimagenet_data.errors import MLImageNetError, OutputError
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.outputs import MARKER, OutputFolder
from mlimagenet_data.files.reading import file_hash, read_manifest

__all__ = ["claim", "open_output", "shared_files", "sweep"]

_KIND = "build"
_INTERMEDIATE = ".build"
_PATIENCE = 600.0  # seconds to wait for a run on another machine that rewrites shared files
_PAUSE = 2.0


def open_output(config: BuildConfig, inputs: list[Path]) -> OutputFolder:
    """Return the dataset folder, or the working copy of a remote one; mark a new or empty one as ours.

    Raises:
        OutputError: If the folder (or the store's) holds something else, or overlaps an input.
        ConfigError: If the run has no images and the folder no earlier run.
    """
    if config.out.startswith(("file:", "local:")):
        raise ConfigError(f"out: {config.out} is a local path; pass it without {config.out.partition(':')[0]}://")
    remote, folder = remote_of(config), config.folder
    if not os.path.lexists(folder / MARKER) and (folder / _INTERMEDIATE).is_dir():
        _mark_again(folder)
    in_store = remote is not None and _fetch_marker(remote, folder)
    if not (config.images or config.demo or (folder / MARKER).exists()):
        raise ConfigError(f"images: pass --images DIR or --demo; {config.out} holds no earlier run to resume")
    out = OutputFolder.open(folder, _KIND, inputs=inputs)
    known = out.names()
    out.claim(_INTERMEDIATE)
    if remote is not None and not (in_store and _INTERMEDIATE in known):
        remote.push(folder / MARKER)
    return out


def _mark_again(folder: Path) -> None:
    """Restore the marker of a build that lost it: its intermediate results, and published files with the listed hashes."""
    if not any((folder / _INTERMEDIATE).glob("*/inputs.parquet")):
        return
    names = {_INTERMEDIATE}
    with suppress(MLImageNetError):  # a manifest that is damaged lists nothing
        manifest = read_manifest(folder)
        listed = dict(manifest.get("files", {}))
        for split in manifest.get("splits", {}).values():
            listed |= {f"data/{name}": facts for name, facts in split.get("files", {}).items()}
        for name, facts in listed.items():
            path = folder / name
            if path.is_file() and not path.is_symlink() and file_hash(path) == facts.get("sha256"):
                names.add(name)
        names.add("build_manifest.json")
    console.print(f"{folder / MARKER} is missing; made again from the build's own files")
    write_json(folder / MARKER, {"kind": _KIND, "files": sorted(names)})


def _fetch_marker(remote: Remote, folder: Path) -> bool:
    """Fetch the store's marker, and return whether it has one; an empty store has none.

    Raises:
        OutputError: If the store's folder holds something else.
    """
    if remote.size(folder / MARKER) is not None:
        return remote.pull(folder / MARKER)
    if found := remote.names(folder):
        raise OutputError(
            f"{remote.url}: holds {found[0]!r}, which this project did not write; choose a new or empty folder as output"
        )
    return False


@contextmanager
def shared_files(plan: Plan) -> Iterator[OutputFolder]:
    """Hold the right to rewrite the files that all splits share while the block runs, on this and on other machines.

    Raises:
        OutputError: If another run holds it for too long.
    """
    out = OutputFolder(plan.config.folder, _KIND)
    with out.locked():
        if plan.remote is None:
            yield out
            return
        with _turn(plan.remote):
            plan.remote.pull(out.path / MARKER)
            known = out.names()
            yield out
            if out.names() != known:
                plan.remote.push(out.path / MARKER)


def claim(plan: Plan, out: OutputFolder, names: list[str]) -> None:
    """Name files that are about to be written, and check that nobody else's are in their place.

    Raises:
        OutputError: If one of them exists and is not ours, in the folder or in the store.
    """
    known = out.names()
    for name in names if plan.remote is not None else ():
        if name not in known and plan.remote.size(out.path / name) is not None:  # type: ignore[union-attr]
            raise OutputError(f"{plan.config.out}: holds {name!r}, which this project did not write; move it away")
    out.claim(*names)
    if not known >= {*names}:
        plan.push(out.path / MARKER)  # before the files, so that a later run knows them after a kill


@contextmanager
def _turn(remote: Remote) -> Iterator[None]:
    """Wait for the store's lock of shared files, and hold it."""
    lock, deadline = remote.folder / _INTERMEDIATE / "locks" / "shared.json", time.monotonic() + _PATIENCE
    while True:
        try:
            held = store_lock(remote, lock)
            held.__enter__()
            break
        except ConfigError as error:
            if time.monotonic() > deadline:
                raise OutputError(str(error)) from error
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def sweep(out: OutputFolder, split: str) -> None:
    """Remove the temporary files of killed runs of a split; its lock must be held."""
    for path in (out.path / _INTERMEDIATE / split).rglob(".*.tmp"):
        path.unlink(missing_ok=True)
    names = out.names()
    out.sweep(name for name in names if name.startswith((f"data/{split}-", f"statistics/{split}.")))
    with out.locked():
        out.sweep(name for name in names if "/" not in name)
