"""What changes pixels after a dataset has labelled them: timm's loader, which sets the dataset's transform, may do so."""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["change_after_labelling"]

_FRAMES = 8  # looked through for timm's function


def change_after_labelling() -> str | None:
    """Return why the labels would be wrong, and what to do, if timm is setting the transform that is set just now."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        if frame.f_globals.get("__name__") == "timm.data.loader" and frame.f_code.co_name == "create_loader":
            return _of_timm(frame)
        frame = frame.f_back
    return None


def _of_timm(frame: FrameType) -> str | None:
    given = frame.f_locals
    if given.get("input_size_choices") is not None:
        return (
            "timm's create_loader(input_size_choices=...) transforms images after the dataset has labelled them. Leave it "
            "out; the dataset's own transform may change between epochs"
        )
    if given.get("num_aug_splits"):
        return "timm's AugMix splits (num_aug_splits) warp images after the dataset has labelled them. Leave them out"
    if given.get("re_prob") and given.get("use_prefetcher") and given.get("is_training") and not given.get("no_aug"):
        return (
            "timm's prefetcher erases pixels after the dataset has labelled them. Pass re_prob=0 to create_loader and "
            "append timm.data.random_erasing.RandomErasing(..., device='cpu') or v2.RandomErasing to the dataset's "
            "transform, or pass use_prefetcher=False"
        )
    return None
