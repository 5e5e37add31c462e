"""Files of a dataset folder against its `build_manifest.json`, which names each with its SHA-256, bytes and rows."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.files.parquet import open_parquet
from mlimagenet_data.files.reading import file_hash
from mlimagenet_data.names import is_plain_path

__all__ = ["MANIFEST", "ListedFile", "breaks_a_set", "faults_of_file", "foreign_files", "listed_files"]

MANIFEST = "build_manifest.json"
_SHARD = re.compile(r"(?P<split>[^/\\]+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.parquet", re.ASCII)


@dataclass(frozen=True)
class ListedFile:
    """What a manifest states of a file. The manifest may come from a stranger: each value may have any type.

    Attributes:
        sha256: Its SHA-256, in hexadecimal.
        size: Its bytes.
        rows: Its rows; only if `is_shard`.
        is_shard: Whether it is a shard.
    """

    sha256: Any
    size: Any
    rows: Any
    is_shard: bool


def listed_files(folder: Path, manifest: dict[str, Any], split: str | None = None) -> dict[str, ListedFile]:
    """Return the files that a manifest names, by their path in the folder.

    Args:
        folder: The dataset folder, for messages.
        manifest: Its manifest.
        split: Only this split's shards; None for all.

    Raises:
        AnnotationError: If the manifest does not list the files of a split, or those beside the shards; if a name is not
            one that a build or an import gives; or if a split's names are not those of a whole set.
    """
    place = folder / MANIFEST
    found: dict[str, ListedFile] = {}
    splits = {name: entry for name, entry in manifest.get("splits", {}).items() if split in (None, name)}
    if split is not None and split not in splits:
        raise AnnotationError(f"{place}: does not list split {split!r}")
    for name, entry in splits.items():
        shards = _entries(place, f"splits.{name}.files", entry.get("files"))
        matches = [(file, _SHARD.fullmatch(file)) for file in shards]
        bad = [
            file for file, match in matches if not match or match["split"] != name or int(match["count"]) != len(shards)
        ]
        if bad:
            raise AnnotationError(
                f"{place}: splits.{name}.files: {bad[0]!r} is not one of this split's {len(shards)} shards"
            )
        found |= {f"data/{file}": _listed(facts, is_shard=True) for file, facts in shards.items()}
    beside = _entries(place, "files", manifest.get("files"))
    for name in beside:
        parts = name.split("/")
        if not is_plain_path(name) or any(part.startswith(".") for part in parts) or parts[0] in ("data", MANIFEST):
            raise AnnotationError(f"{place}: files: {name!r} is not the name of a file beside the shards")
    return found | {name: _listed(facts, is_shard=False) for name, facts in beside.items()}


def _entries(place: Path, field: str, value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(facts, dict) for facts in value.values()):
        raise AnnotationError(f"{place}: {field}: must list files with their SHA-256 and bytes; build or import again")
    return value


def _listed(facts: dict[str, Any], *, is_shard: bool) -> ListedFile:
    return ListedFile(facts.get("sha256"), facts.get("bytes"), facts.get("rows"), is_shard)


def foreign_files(folder: Path, listed: Container[str]) -> list[str]:
    """Return the names in a folder's `data/` that no split lists, sorted."""
    with os.scandir(folder / "data") as entries:
        return sorted(f"data/{entry.name}" for entry in entries if f"data/{entry.name}" not in listed)


def breaks_a_set(name: str, manifest: dict[str, Any]) -> bool:
    """Return whether a file in `data/` is named as a shard of a split that does not list it."""
    match = _SHARD.fullmatch(name.removeprefix("data/"))
    return match is not None and match["split"] in manifest.get("splits", {})


def faults_of_file(folder: Path, name: str, listed: ListedFile) -> Iterator[str]:
    """Yield how a file differs from what the manifest states."""
    path = folder / name
    try:
        if link := _link_on_the_way(folder, name):
            yield f"{link}: a link; a dataset's files must be real files in its folder"
        elif not stat.S_ISREG((found := path.lstat()).st_mode):
            yield f"{path}: listed in the manifest, but not a regular file"
        elif found.st_size != listed.size:
            yield f"{path}: {found.st_size} bytes, but the manifest states {listed.size}"
        elif file_hash(path) != listed.sha256:
            yield f"{path}: SHA-256 differs from the manifest"
        elif listed.is_shard and (rows := open_parquet(path).metadata.num_rows) != listed.rows:
            yield f"{path}: {rows} rows, but the manifest states {listed.rows}"
    except FileNotFoundError:
        yield f"{path}: listed in the manifest, but missing"
    except OSError as error:
        yield f"{path}: cannot be read: {error.strerror or error}"
    except AnnotationError as error:
        yield str(error)


def _link_on_the_way(folder: Path, name: str) -> Path | None:
    path = folder
    for part in name.split("/"):
        path /= part
        if path.is_symlink():
            return path
    return None
