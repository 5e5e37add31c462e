"""Find the Parquet shards of a split, in a folder or on the Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError

__all__ = ["Source", "annotation_files"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def annotation_files(source: Source, split: str) -> list[Path]:
    """Return a split's Parquet files, downloading them if the dataset is on the Hub.

    Raises:
        AnnotationsNotFoundError: If the folder, the split or a file does not exist.
        AnnotationError: If a shard is missing.
    """
    if not isinstance(source, str | os.PathLike):
        files = [Path(file) for file in source]
        if not files:
            raise AnnotationsNotFoundError("annotations: got an empty list; pass at least one Parquet file")
        for file in files:
            if not file.is_file():
                raise AnnotationsNotFoundError(f"{file}: no such file")
        return files
    folder = Path(source)
    if not folder.is_dir() and _HUB_ID.fullmatch(os.fspath(source)):
        folder = _from_hub(os.fspath(source), split)
    return _find_shards(folder, split)


def _from_hub(name: str, split: str) -> Path:
    from huggingface_hub import snapshot_download

    repo, _, revision = name.partition("@")
    patterns = [f"data/{split}-*.parquet", "build_manifest.json", "README.md"]
    return Path(snapshot_download(repo, repo_type="dataset", revision=revision or None, allow_patterns=patterns))


def _find_shards(folder: Path, split: str) -> list[Path]:
    if not folder.is_dir():
        raise AnnotationsNotFoundError(f"{folder}: no such folder")
    files = sorted((folder / "data").glob(f"{split}-*.parquet"))
    if not files:
        others = sorted({f.name.split("-")[0] for f in (folder / "data").glob("*.parquet")})
        found = f"available splits: {', '.join(others)}" if others else "its data/ holds no Parquet files"
        raise AnnotationsNotFoundError(f"{folder}: no annotations for split {split!r}; {found}")
    counts = {match.group(2) if (match := _SHARD.search(f.name)) else "?" for f in files}
    if counts != {f"{len(files):05d}"}:
        raise AnnotationError(
            f"{folder}: found {len(files)} shards of split {split!r}, but their names state a total of "
            f"{', '.join(sorted(counts))}; restore the missing shards or remove the extra ones"
        )
    return files
