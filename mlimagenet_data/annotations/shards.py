"""Find the Parquet shards of a split, in a folder or on the Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError

__all__ = [
    "HUB_PREFIX",
    "Source",
    "annotation_files",
    "checked_source",
    "find_annotations",
    "hub_errors",
    "hub_name",
    "hub_snapshot",
]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
HUB_PREFIX = "hf:"
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"\w[\w./-]*", re.ASCII)


def annotation_files(source: Source, split: str) -> list[Path]:
    """Return a split's Parquet files, downloading them if the source is on the Hub.

    Args:
        source: A dataset folder, `hf:USER/NAME` or `hf:USER/NAME@REVISION`, or a list of Parquet files. Only `hf:` asks
            the Hub, so a mistyped path never does.
        split: Name of the split.

    Raises:
        AnnotationsNotFoundError: If the folder, the dataset, the split or a file does not exist.
        AnnotationError: If a shard is missing, or a name on the Hub is invalid.
    """
    if not isinstance(source, str | os.PathLike):
        files = [Path(file) for file in source]
        if not files:
            raise AnnotationsNotFoundError("annotations: got an empty list; pass at least one Parquet file")
        for file in files:
            if not file.is_file():
                raise AnnotationsNotFoundError(f"{file}: no such file")
        return files
    if isinstance(source, str) and source.startswith(HUB_PREFIX):
        return _find_shards(_from_hub(source, split), split)
    folder = Path(source)
    if not folder.is_dir():
        name = os.fspath(source)
        is_name = _HUB_NAME.fullmatch(name.partition("@")[0]) is not None
        hint = f"; for a dataset on the Hub write {HUB_PREFIX}{name}" if is_name else ""
        if folder.exists():
            raise AnnotationsNotFoundError(f"{folder}: not a folder; name the dataset's folder, which holds data/")
        raise AnnotationsNotFoundError(f"{folder}: no such folder{hint}")
    return _find_shards(folder, split)


def checked_source(source: Source) -> str | os.PathLike[str] | list[str]:
    """Return a source with its files as strings.

    Raises:
        TypeError: If it is neither a path nor a list of paths.
    """
    if isinstance(source, str | os.PathLike):
        return source
    if not isinstance(source, Sequence) or not all(isinstance(file, str | os.PathLike) for file in source):
        raise TypeError(
            f"annotations must be a folder, {HUB_PREFIX}USER/NAME or a list of Parquet files, got {type(source).__name__}"
        )
    return [os.fspath(file) for file in source]


def hub_name(text: str) -> tuple[str, str | None]:
    """Return the repository and revision of `hf:USER/NAME`, `hf:USER/NAME@REVISION`, or the same without `hf:`.

    Raises:
        AnnotationError: If it is not of this form.
    """
    repo, at, revision = text.removeprefix(HUB_PREFIX).partition("@")
    if not _HUB_NAME.fullmatch(repo) or (at and not _REVISION.fullmatch(revision)):
        raise AnnotationError(
            f"{text}: not a dataset on the Hub; write {HUB_PREFIX}USER/NAME or {HUB_PREFIX}USER/NAME@REVISION"
        )
    return repo, revision or None


def hub_errors() -> tuple[type[Exception], ...]:
    """Return the errors that huggingface_hub raises for what the user or the Hub can mend."""
    from huggingface_hub.utils import HfHubHTTPError  # type: ignore[attr-defined] # in .errors only in later releases

    transport: Any = HfHubHTTPError.__mro__[1]  # of requests, httpx or httpx2, depending on the release
    # ValueError: an invalid name or card; RuntimeError: a large file failed, with the reason as its cause
    return (transport, OSError, ValueError, RuntimeError)


def _from_hub(source: str, split: str) -> Path:
    patterns = [f"data/{split}-*.parquet", "build_manifest.json", "README.md", "croissant.json", "statistics/*"]
    return hub_snapshot(source, patterns)


def hub_snapshot(source: str, patterns: list[str]) -> Path:
    """Download the files of `hf:USER/NAME[@REVISION]` that match patterns, and return their folder.

    Raises:
        AnnotationError: If the name is not of this form.
        AnnotationsNotFoundError: If they cannot be downloaded; the message says why.
    """
    from huggingface_hub import snapshot_download

    repo, revision = hub_name(source)
    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except hub_errors() as error:
        raise AnnotationsNotFoundError(f"{source}: {_why_not(error)}") from error


def _why_not(error: Exception) -> str:
    """Return why a download failed, and what to do, in one sentence each."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined] # in .errors only in later releases
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, RevisionNotFoundError):
        return "the dataset on the Hub has no such revision"
    if isinstance(error, RepositoryNotFoundError):
        return "no such dataset on the Hub, or a private one; for that, log in with `hf auth login`"
    if isinstance(error, LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
        return f"not downloaded yet, and {why}; download it where the Hub can be reached, or name a dataset folder"
    return f"cannot be downloaded from the Hub: {error}"


def _is_of(split: str, name: str) -> bool:
    shard = _SHARD.search(name)
    return name[: shard.start()] == split if shard else name.startswith(f"{split}-")


def _find_shards(folder: Path, split: str) -> list[Path]:
    there = sorted((folder / "data").glob("*.parquet"))
    files = [file for file in there if _is_of(split, file.name)]
    if not files:
        others = sorted({_SHARD.sub("", file.name) for file in there})
        where = (
            "its data/ holds no Parquet files"
            if (folder / "data").is_dir()
            else "it has no folder data/, as datasets do"
        )
        found = f"available splits: {', '.join(others)}" if others else where
        raise AnnotationsNotFoundError(f"{folder}: no annotations for split {split!r}; {found}")
    counts = {match.group(2) if (match := _SHARD.search(f.name)) else "?" for f in files}
    if counts != {f"{len(files):05d}"}:
        raise AnnotationError(
            f"{folder}: found {len(files)} shards of split {split!r}, but their names state a total of "
            f"{', '.join(sorted(counts))}; restore the missing shards or remove the extra ones"
        )
    return files


def find_annotations(root: str | os.PathLike[str], annotations: Source | None = None) -> Source:
    """Return the source of the annotations.

    The first of these: `annotations`, $MLIMAGENET_ANNOTATIONS, <root>/mlimagenet if it exists, ./mlimagenet if it
    exists. A dataset on the Hub is named `hf:USER/NAME` or `hf:USER/NAME@REVISION`; nothing else asks the Hub.

    Raises:
        AnnotationsNotFoundError: If neither an explicit source nor a default folder exists.
    """
    if annotations is not None:
        return annotations
    if named := os.environ.get("MLIMAGENET_ANNOTATIONS"):
        return named
    candidates = [Path(root) / "mlimagenet", Path("mlimagenet")]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise AnnotationsNotFoundError(
        f"no annotations at {' or '.join(map(str, candidates))}. Build them with `python -m build.run --images {root} "
        "--out mlimagenet`, or import others with `mlimagenet import`; pass their folder as annotations=... or in "
        "$MLIMAGENET_ANNOTATIONS"
    )
