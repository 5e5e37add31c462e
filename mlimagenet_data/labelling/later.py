"""What changes pixels after a dataset has labelled them, as far as it can be seen: timm's loaders and wrappers.

They are found on the call stack, where they stand while they set a dataset's transform, read from it, pickle it for a
worker, or have forked the worker that reads from it. So it does not matter how many wrappers lie between.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["change_after_labelling"]

_ERASES = (
    "timm's prefetcher erases pixels after the dataset has labelled them. Pass re_prob=0 to create_loader and append "
    "timm.data.random_erasing.RandomErasing(..., device='cpu') or v2.RandomErasing to the dataset's transform, or pass "
    "use_prefetcher=False"
)
_SIZES = (
    "timm's create_loader(input_size_choices=...) transforms images after the dataset has labelled them. Leave it out; the "
    "dataset's own transform may change between epochs"
)
_SPLITS = "timm's AugMix splits (num_aug_splits) warp images after the dataset has labelled them. Leave them out"
_NAFLEX = "timm's NaFlex loader transforms images after the dataset has labelled them. Use create_loader"


def change_after_labelling() -> str | None:
    """Return why the labels would be wrong, and what to do, if a caller changes pixels after they are labelled."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _NAMES:
            check = _CALLERS.get((frame.f_globals.get("__name__"), frame.f_code.co_name))
            if check is not None and (why := check(frame.f_locals)):
                return why
        frame = frame.f_back
    return None


def _create_loader(given: Any) -> str | None:
    if given.get("input_size_choices") is not None:
        return _SIZES
    if given.get("num_aug_splits"):
        return _SPLITS
    erases = given.get("re_prob") and given.get("use_prefetcher") and given.get("is_training")
    return _ERASES if erases and not given.get("no_aug") else None


def _prefetcher(names: Any) -> str | None:
    return _ERASES if getattr(names.get("self"), "random_erasing", None) is not None else None


# by module and function
_CALLERS: dict[tuple[Any, str], Callable[[Any], str | None]] = {
    ("timm.data.loader", "create_loader"): _create_loader,
    ("timm.data.loader", "__iter__"): _prefetcher,
    ("timm.data.scheduled_sampler", "__getitem__"): lambda names: _SIZES,
    ("timm.data.dataset", "__getitem__"): lambda names: _SPLITS if hasattr(names.get("self"), "num_splits") else None,
    ("timm.data.naflex_dataset", "__iter__"): lambda names: _NAFLEX,
}
_NAMES = {function for _, function in _CALLERS}
