"""Errors that this package raises on purpose; each message names the place, the value and the way out."""

__all__ = [
    "AnnotationError",
    "AnnotationsNotFoundError",
    "EvaluationError",
    "HeatmapError",
    "ImageError",
    "MLImageNetError",
    "UntrackableTransformError",
]


class MLImageNetError(Exception):
    """Base of all errors of this package."""


class AnnotationError(MLImageNetError, ValueError):
    """An annotation file breaks the schema, or does not belong to the images at hand."""


class AnnotationsNotFoundError(MLImageNetError, FileNotFoundError):
    """No annotations where they were looked for."""


class EvaluationError(MLImageNetError, ValueError):
    """Scores, targets, or files of an evaluation that cannot be what they should be."""


class HeatmapError(MLImageNetError, ValueError):
    """A file of heatmaps that is damaged or belongs to another training run."""


class ImageError(MLImageNetError, OSError):
    """A file that cannot be used as an image.

    Attributes:
        status: The row's status in a built dataset (see `mlimagenet_data.annotations.schema.STATUSES`).
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status


class UntrackableTransformError(MLImageNetError, TypeError):
    """A transform whose geometry cannot be followed, so that the labels of its output are unknown."""
