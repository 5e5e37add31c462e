"""Stand-ins for a transform's parts, so that the user's own containers run on images that carry their views.

A container is never rebuilt: a shallow copy of it, with its parts replaced, runs its own code for one image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.track_pillow import TrackedImage, Trail
from mlimagenet_data.views.track_tensor import TrackedTensor
from mlimagenet_data.views.track_torchvision import Tracker

__all__ = ["Followed", "Pair", "Proxy", "name_of", "run_with_proxies", "tracked", "untracked"]

Followed = Callable[[Any, Tracker], tuple[Any, Tracker]]


class Pair:
    """An image and its tracker, for containers of torchvision, which do not look at what they hand on."""

    def __init__(self, image: Any, tracker: Tracker) -> None:
        self.image, self.tracker = image, tracker


class Proxy:
    """Stands for a part in the copy of a container; takes and returns a `Pair` or a tracked image."""

    def __init__(self, part: Any, followed: Followed) -> None:
        self._part, self._followed = part, followed

    def __call__(self, *inputs: Any) -> Any:
        """Apply the part to one image."""
        given = inputs[0] if len(inputs) == 1 else None
        if isinstance(given, Pair):
            return Pair(*self._followed(given.image, given.tracker))
        if not isinstance(given, TrackedImage | TrackedTensor):
            kinds = ", ".join(type(item).__name__ for item in inputs)
            raise UntrackableTransformError(
                f"{name_of(self._part)}: it was called with {kinds or 'nothing'}, which is not derived from the image by "
                "operations that can be followed"
            )
        image, tracker = untracked(given, name_of(self._part))
        return tracked(*self._followed(image, tracker), name=name_of(self._part))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


def name_of(transform: Any) -> str:
    """Return the name of a function or of a transform's class."""
    return str(getattr(transform, "__name__", type(transform).__name__))


def tracked(image: Any, tracker: Tracker, name: str) -> TrackedImage | TrackedTensor:
    """Return an image as one that carries its view.

    Raises:
        UntrackableTransformError: If it is neither a PIL image nor a tensor; the message names the part.
    """
    if isinstance(image, Image.Image):
        return TrackedImage.of(image, tracker.view)
    if isinstance(image, torch.Tensor):
        return TrackedTensor.of(image, tracker.view, Trail(tracker.view))
    raise UntrackableTransformError(f"{name}: its effect on a {type(image).__name__} is unknown")


def untracked(output: Any, name: str) -> tuple[Any, Tracker]:
    """Return a plain image and its tracker.

    Raises:
        UntrackableTransformError: If the image does not carry its view, or was changed in place; the message names the
            part that it comes from.
    """
    if isinstance(output, TrackedImage):
        return output.plain(), Tracker.of(output.view)
    if isinstance(output, TrackedTensor) and output.is_unchanged:
        return output.as_subclass(torch.Tensor), Tracker.of(output.tracked_view)
    if isinstance(output, TrackedTensor):
        raise UntrackableTransformError(f"{name}: it changes the image in place, so what remains visible is unknown")
    raise UntrackableTransformError(
        f"{name}: it returned a {type(output).__name__} not derived from its input by Pillow's methods or by "
        "torchvision.transforms.v2.functional, so its geometry is unknown"
    )


def run_with_proxies(transform: Any, given: Any, proxy: Callable[[Any], Any]) -> Any:
    """Run a copy of a transform whose parts are replaced, and let it keep what it changes of itself.

    Args:
        transform: Any callable.
        given: What it is called with.
        proxy: Returns a stand-in for a part, or the value itself if it is none.
    """
    own = getattr(transform, "__dict__", {})
    replaced = {name: _replaced(value, proxy) for name, value in own.items()}
    replaced = {name: value for name, value in replaced.items() if value is not own[name]}
    if not replaced:
        return transform(given)
    twin = object.__new__(type(transform))
    twin.__dict__.update(own, **replaced)
    try:
        return twin(given)
    finally:
        for name, value in twin.__dict__.items():
            if value is not replaced.get(name, own.get(name)):
                own[name] = value


def _replaced(value: Any, proxy: Callable[[Any], Any]) -> Any:
    """Return a part's stand-in, or a list, tuple or dict of them; the same object if nothing in it is a part."""
    if type(value) in (list, tuple, torch.nn.ModuleList):
        items = [_replaced(item, proxy) for item in value]
        same = all(one is other for one, other in zip(items, value, strict=True))
        return value if same else tuple(items) if type(value) is tuple else items
    if type(value) is dict:
        found = {key: _replaced(item, proxy) for key, item in value.items()}
        return value if all(found[key] is value[key] for key in value) else found
    return proxy(value)
