"""Multi-label, region-grounded ImageNet annotations with labels that follow every crop.

Names are imported on first use: `import mlimagenet_data` is fast, and reading annotations does not need torch.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlimagenet_data.annotations.store import AnnotationStore as AnnotationStore
    from mlimagenet_data.dataset import MultiLabelImageNet as MultiLabelImageNet
    from mlimagenet_data.hf import with_labels as with_labels
    from mlimagenet_data.labelling.policy import LabelPolicy as LabelPolicy

if sys.platform == "win32":
    raise ImportError("mlimagenet_data runs on Linux and macOS; on Windows, use WSL")

__version__ = "0.1.0"

_HOME = {
    "AnnotationStore": "mlimagenet_data.annotations.store",
    "LabelPolicy": "mlimagenet_data.labelling.policy",
    "MultiLabelImageNet": "mlimagenet_data.dataset",
    "with_labels": "mlimagenet_data.hf",
}
__all__ = ["AnnotationStore", "LabelPolicy", "MultiLabelImageNet", "__version__", "with_labels"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mlimagenet_data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
