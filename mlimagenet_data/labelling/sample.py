"""Samples for all datasets of this package: (transformed image, target) from an image and its annotations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import tv_tensors

from mlimagenet_data.annotations.records import NO_SIZE, Record
from mlimagenet_data.errors import AnnotationError, UntrackableTransformError
from mlimagenet_data.labelling.later import change_after_labelling
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.random_states import RandomStates
from mlimagenet_data.labelling.targets import ViewLabels, label_view, multi_hot, pooled, soft, with_ignore
from mlimagenet_data.views.follow import Followed, follow, transform_with_view
from mlimagenet_data.views.view import View, view_of_box

__all__ = ["TARGETS", "AnnotatedView", "BuildsSamples", "SampleBuilder", "Target", "Untrackable"]

Target = Literal["multi_hot", "soft", "ignore", "pooled", "single", "regions", "view"]
Untrackable = Literal["error", "whole"]
TARGETS = get_args(Target)
_VECTORS: dict[str, Callable[[ViewLabels], NDArray[np.float32]]] = {
    "multi_hot": multi_hot,
    "soft": soft,
    "ignore": with_ignore,
    "pooled": pooled,
}


class AnnotatedView(NamedTuple):
    """An image's annotations and a view of it: everything that its labels depend on."""

    record: Record
    view: View


class SampleBuilder:
    """Applies a transform to an image and labels the resulting view.

    Args:
        transform: See `mlimagenet_data.views.follow.follow`; None leaves the image unchanged.
        policy: Rules that decide which classes count as present in a view.
        target: The kind of target; see `MultiLabelImageNet`.
        untrackable: Response to what cannot be followed: `error` raises; `whole` warns once for each kind and labels the
            whole image. It concerns the whole transform if a part is known to be untrackable, else the sample.

    Raises:
        UntrackableTransformError: If a part of the transform cannot be followed.
    """

    def __init__(
        self, transform: Callable[..., Any] | None, policy: LabelPolicy, target: Target, untrackable: Untrackable
    ) -> None:
        self.transform = transform
        self._changed_later: str | None = None
        self.set_rules(policy, target)
        self.set_untrackable(untrackable)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the followed transform, which holds functions that cannot be pickled; tell spawned workers of the callers."""
        state = {name: value for name, value in self.__dict__.items() if name != "_followed"}
        return state | {"_changed_later": self._changed_later or change_after_labelling()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Follow the transform again."""
        self.__dict__.update(state, _changed_later=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user was warned when the builder was created
            self.set_transform(self.transform)
        self._changed_later = state["_changed_later"]  # raised when a sample is read, where DataLoader shows it

    def set_rules(self, policy: LabelPolicy, target: Target) -> None:
        """Replace the policy and the kind of target.

        Raises:
            TypeError: If `policy` is not a LabelPolicy.
            ValueError: If `target` is unknown.
        """
        if not isinstance(policy, LabelPolicy):
            raise TypeError(f"policy must be a LabelPolicy, got a {type(policy).__name__}")
        if target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
        self.policy, self.target = policy, target

    def set_untrackable(self, untrackable: Untrackable) -> None:
        """Replace the response to what cannot be followed; raise ValueError if it is unknown, else as `set_transform` does."""
        if untrackable not in get_args(Untrackable):
            raise ValueError(f"untrackable must be one of {', '.join(get_args(Untrackable))}, got {untrackable!r}")
        self._follow(self.transform, untrackable)

    def set_transform(self, transform: Callable[..., Any] | None) -> None:
        """Replace the transform.

        Raises:
            TypeError: If it is not callable.
            UntrackableTransformError: If a part cannot be followed, unless `untrackable` is `whole`.
        """
        self._follow(transform, self.untrackable)

    def _follow(self, transform: Callable[..., Any] | None, untrackable: Untrackable) -> None:
        """Set both; after an error, all is as before."""
        before = dict(self.__dict__)
        self.transform, self.untrackable = transform, untrackable
        self._followed: Followed | None = None
        self._gives_up = False
        self._said: set[str] = set()
        try:
            self.check_callers()
            if transform is not None:
                self._followed = self._followed_or_whole(transform)
        except TypeError:
            self.__dict__ = before
            raise

    def _followed_or_whole(self, transform: Callable[..., Any]) -> Followed | None:
        try:
            return follow(transform)
        except UntrackableTransformError as error:
            self._give_up(error)
            return None

    def check_callers(self) -> None:
        """Look for callers that change pixels after they are labelled.

        Raises:
            UntrackableTransformError: If there is one, unless `untrackable` is `whole`.
        """
        if why := self._changed_later or change_after_labelling():
            self._give_up(UntrackableTransformError(why))

    def _give_up(self, error: UntrackableTransformError) -> None:
        self._say("every view", error)
        self._gives_up = True

    def _say(self, what: str, error: UntrackableTransformError) -> None:
        """Raise the error or, if the whole image's labels are wanted then, warn of it once."""
        if self.untrackable == "error":
            raise error
        if str(error) not in self._said:
            self._said.add(str(error))
            warnings.warn(f"{what} gets the whole image's labels: {error}", stacklevel=5)

    def apply_transform(self, record: Record, image: Image.Image) -> tuple[Any, View]:
        """Return the transformed image and its view.

        Raises:
            AnnotationError: If the image's size differs from the annotated size.
            UntrackableTransformError: If an operation cannot be followed, and `untrackable` is `error`.
        """
        if record.size not in (None, (image.height, image.width)):  # imported annotations may lack the size
            raise AnnotationError(
                f"{image.height} x {image.width} pixels, but {record.image_id} was annotated at {record.size}: use the "
                "annotated copy of the image and a loader that applies the EXIF orientation"
            )
        if self.untrackable == "error":
            return transform_with_view(self._followed, image)
        whole = View.of(image.height, image.width)
        if not self._gives_up:
            before, copy = RandomStates.now(), image.copy()  # a part may change the image before another is refused
            try:
                return transform_with_view(self._followed, image)
            except UntrackableTransformError as error:
                self._say("a view", error)
            before.restore()
            image = copy
        return image if self.transform is None else self.transform(image), whole

    def __call__(self, record: Record, image: Image.Image) -> tuple[Any, Any]:
        """Return the transformed image and its target; raise the same errors as `apply_transform`."""
        output, view = self.apply_transform(record, image)
        return output, self.make_target(record, view)

    def make_target_of_box(self, record: Record, box: tuple[float, float, float, float]) -> Any:
        """Return the target of a crop (top, left, height, width) of the original, in pixels."""
        if record.size is None:
            raise AnnotationError(f"{record.image_id}: {NO_SIZE}")
        top, left, height, width = box
        if not (height > 0 and width > 0):
            raise ValueError(f"box (top, left, height, width) must have positive height and width, got {tuple(box)}")
        return self.make_target(record, view_of_box(record.size, top, left, height, width))

    def make_target(self, record: Record, view: View) -> Any:
        """Return the target of a view."""
        if self.target == "single":
            return -1 if record.label is None else record.label
        if self.target == "view":
            return AnnotatedView(record, view)
        labels = label_view(record, self.policy, view)
        if self.target == "regions":
            return _regions(record, labels, view)
        return torch.from_numpy(_VECTORS[self.target](labels))


class BuildsSamples:
    """The settings of a dataset that builds its samples; set later, they act as if they had been given at first."""

    _builder: SampleBuilder

    @property
    def transform(self) -> Callable[..., Any] | None:
        """The transform, whose geometry is followed."""
        return self._builder.transform

    @transform.setter
    def transform(self, transform: Callable[..., Any] | None) -> None:
        self._builder.set_transform(transform)

    @property
    def policy(self) -> LabelPolicy:
        """The rules that decide which classes count as present in a view."""
        return self._builder.policy

    @policy.setter
    def policy(self, policy: LabelPolicy) -> None:
        self._builder.set_rules(policy, self.target)

    @property
    def target(self) -> Target:
        """The kind of target."""
        return self._builder.target

    @target.setter
    def target(self, target: Target) -> None:
        self._builder.set_rules(self.policy, target)

    @property
    def untrackable(self) -> Untrackable:
        """Response to a transform that cannot be followed."""
        return self._builder.untrackable

    @untrackable.setter
    def untrackable(self, untrackable: Untrackable) -> None:
        self._builder.set_untrackable(untrackable)


def _regions(record: Record, labels: ViewLabels, view: View) -> dict[str, Any]:
    shares = labels.shares
    height, width = view.canvas_size
    count = len(record.best)
    masks = np.zeros((count, height, width), np.bool_)
    for stack in record.stacks:
        masks[stack.regions] = view.sample(stack.masks)
    boxes = torch.tensor([_bounds(mask) for mask in masks], dtype=torch.float32).reshape(-1, 4)
    return {
        "image_id": record.image_id,
        "masks": tv_tensors.Mask(torch.from_numpy(masks)),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
        "labels": torch.tensor([index for index, _ in record.best], dtype=torch.int64),
        "scores": torch.tensor([score for _, score in record.best], dtype=torch.float32),
        "visibility": torch.tensor([shares[k][0] for k in range(count)], dtype=torch.float32),
        "coverage": torch.tensor([shares[k][1] for k in range(count)], dtype=torch.float32),
        "multi_hot": torch.from_numpy(multi_hot(labels)),
        "original": -1 if record.label is None else record.label,
    }


def _bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return (0, 0, 0, 0)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
