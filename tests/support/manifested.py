"""Manifests for the annotated folders of tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mlimagenet_data.annotations.card import companion_files
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.reading import file_hash


def write_manifest(folder: Path, *beside: str, **changes: Any) -> Path:
    """Write a manifest that lists a folder's shards of the split `train`, and the files `beside` them.

    `changes` are added to the split's entry.
    """
    listed = {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": file_hash(path),
            "rows": pq.read_metadata(path).num_rows,
        }
        for path in sorted((folder / "data").glob("train-*.parquet"))
    }
    splits = {"train": {"files": listed, **changes}}
    manifest = {"schema_version": 1, "splits": splits, "files": companion_files(folder, beside)}
    write_json(folder / "build_manifest.json", manifest)
    return folder
