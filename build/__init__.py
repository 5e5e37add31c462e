"""Relabel an image folder automatically: `python -m build.run`, or `from build import BuildConfig, relabel`.

Names are imported on first use, so that `python -m build.run --help` is fast. Imports `mlimagenet_data`, never the
reverse. This file must exist: without it, Python would import PyPI's `build` tool instead, where that is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from build.api import relabel as relabel
    from build.config.options import BuildConfig as BuildConfig

_HOME = {"BuildConfig": "build.config.options", "relabel": "build.api"}
__all__ = ["BuildConfig", "relabel"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'build' has no attribute {name!r}")
