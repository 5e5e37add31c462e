"""Reading of files that may be damaged or come from strangers: hashes, manifests, versions."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from importlib import metadata
from pathlib import Path
from typing import Any

from mlimagenet_data.errors import AnnotationError

__all__ = ["TORCH_LOAD_ERRORS", "file_hash", "read_manifest", "version_of"]

# Errors of torch.load(weights_only=True) on damaged files, whose bytes its unpickler executes as a program (found by
# `benchmarks.fuzz`).
TORCH_LOAD_ERRORS = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip
_MOST_MANIFEST_BYTES = 1 << 28


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a dataset folder's `build_manifest.json`, which may come from a stranger; `{}` if it does not exist.

    Raises:
        AnnotationError: If it is not a JSON object whose `splits` are objects.
    """
    path = folder / "build_manifest.json"
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > _MOST_MANIFEST_BYTES:
            raise ValueError(f"it must have at most {_MOST_MANIFEST_BYTES} bytes")
        found = json.loads(path.read_bytes())
        splits = found["splits"]
        if not isinstance(found, dict) or not all(isinstance(split, dict) for split in splits.values()):
            raise ValueError("each split must be an object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a build manifest: {error}") from error
    return found


def version_of(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
