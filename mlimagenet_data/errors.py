"""Errors that this package raises deliberately; each message names the place, the value and what to do."""

import functools
from typing import Any

__all__ = [
    "AnnotationError",
    "AnnotationsNotFoundError",
    "EvaluationError",
    "HeatmapError",
    "ImageError",
    "MLImageNetError",
    "OutputError",
    "StateError",
    "UntrackableTransformError",
]


class MLImageNetError(Exception):
    """Base class of all errors of this package."""


class AnnotationError(MLImageNetError, ValueError):
    """An annotation file that breaks the schema or does not belong to the given images."""


class AnnotationsNotFoundError(MLImageNetError, FileNotFoundError):
    """No annotations exist at the given location."""


class EvaluationError(MLImageNetError, ValueError):
    """Invalid scores, targets or evaluation files."""


class HeatmapError(MLImageNetError, ValueError):
    """A heatmap file that is damaged or belongs to another training run."""


class ImageError(MLImageNetError, OSError):
    """A file that cannot be used as an image.

    Attributes:
        status: The row's status in a built dataset (see `mlimagenet_data.annotations.schema.STATUSES`).
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the status when the error comes from another process."""
        return functools.partial(type(self), status=self.status), self.args


class OutputError(MLImageNetError, ValueError):
    """An output that is not ours to write: foreign files, an input of the run, or another kind of output."""


class StateError(MLImageNetError, ValueError):
    """A damaged file of this project's own state."""


class UntrackableTransformError(MLImageNetError, TypeError):
    """A transform whose geometry cannot be tracked, so the labels of its output are unknown."""
