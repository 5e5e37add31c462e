"""Tar and Parquet files of small images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(seed: int) -> bytes:
    """Return a PNG file's bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def member(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    """Return a member's header; `fields` are attributes of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def write_tar(path: Path, members: Iterable[tuple[str | tarfile.TarInfo, bytes]], **options: Any) -> Path:
    """Write a tar file of names or headers, and contents; `options` go to `tarfile.open`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members:
            info = member(name, len(content)) if isinstance(name, str) else name
            archive.addfile(info, io.BytesIO(content))
    return path


def write_parquet(path: Path, rows: Sequence[tuple[str | None, bytes | None, int | None]], **options: Any) -> Path:
    """Write a Parquet file of paths, contents and labels as `datasets` does; `options` go to pyarrow.

    `metadata` among them is the file's metadata.
    """
    table = pa.table({
        "image": pa.array([{"bytes": content, "path": name} for name, content, _ in rows], IMAGE_TYPE),
        "label": pa.array([label for *_, label in rows], pa.int64()),
    }).replace_schema_metadata(options.pop("metadata", None))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path
