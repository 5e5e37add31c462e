"""The variants of the build that `benchmarks.quality` measures, and how one is built."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from unittest import mock

from build.api import relabel
from build.config.options import BuildConfig
from build.labeler.originals import PRIOR
from mlimagenet_data.evaluate.sets.opening import open_truth
from mlimagenet_data.evaluate.sets.truth import Truth
from mlimagenet_data.files.outputs import OutputFolder

__all__ = [
    "COCO", "DEFAULT", "IMAGENET", "REGIONS", "TABLES", "Photographs", "Table", "Variant", "build", "open_sets", "replaced",
]  # fmt: skip

IMAGENET, COCO = "imagenet", "coco"
REGIONS = Path(".build", "train", "regions")  # of a dataset: the results of the regions stage
_OPTIONS = {o.name for o in fields(BuildConfig) if o.metadata["stage"] == "regions"}
_LEVELS = "build.ops.peaks.LEVELS"
_OPINION = "build.ops.image_labels._OPINION"


@dataclass(frozen=True)
class Variant:
    """A build that differs from the default.

    Attributes:
        name: Its name in the tables.
        options: Build options.
        constants: Module constants (dotted names), replaced during the build.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)

    @property
    def finds_regions(self) -> bool:
        """Whether the variant has regions of its own; all others share the default's."""
        return bool(_OPTIONS & set(self.options)) or _LEVELS in self.constants

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Table:
    """Variants that can change the same figures of one set of photographs.

    Attributes:
        title: Heading.
        photographs: IMAGENET or COCO.
        figures: Columns, as "group.figure".
        variants: Rows.
    """

    title: str
    photographs: str
    figures: tuple[str, ...]
    variants: tuple[Variant, ...]


def _option(name: str, *values: Any) -> tuple[Variant, ...]:
    return tuple(Variant(f"`--{name.replace('_', '-')} {value}`", {name: value}) for value in values)


DEFAULT = Variant("default")
_OBJECT = (
    "regions.corloc", "regions.loc_named", "regions.regions_per_image", "crops.wrong", "crops.gone_told", "crops.there_kept",
)  # fmt: skip
_MASKS = (
    "labels.best_f1", "labels.precision@0.5", "labels.map", "regions.grounded", "regions.best_iou_5pct",
    "regions.recall_iou50", "regions.regions_per_image", "crops.f1",
)  # fmt: skip
_PEAKS = _option("peaks", 0, 4, 16)
_ROUNDS = _option("num_regions", 1, 6)
_SEEN = (*_option("scan_size", 0), *_option("located", 0.0))
TABLES = (
    Table(
        "Labels beside an original label", IMAGENET,
        ("labels.f1", "labels.precision", "labels.recall", "labels.added", "labels.added_right", "labels.others_found",
         "scores.ece", "scores.ece_original", "scores.ece_added"),
        (*_option("added_threshold", 0.25, 0.3, 0.4, 0.5), *_option("unconfirmed", "drop")),
    ),
    Table(
        "Trust in original labels", IMAGENET,
        ("scores.ece", "scores.ece_original", "scores.wrong_auroc", "scores.wrong_not_best", *_OBJECT),
        (
            Variant("prior trust, not fitted", {}, {"build.stages.labeler.fit_trust": lambda *_: PRIOR}),
            Variant("prior weight spread by 0.2", {}, {"build.labeler.originals._PRIOR_SPREAD": 0.2}),
            Variant("no trust: the classifier's probability", {},
                    {"build.labeler.originals.OriginalTrust.score": lambda _, own, rival: own}),
        ),
    ),
    Table(
        "Publishing regions beside an original label", IMAGENET, _OBJECT,
        (*_option("labelled_merge_iou", 0.4, 0.7, 2.0), *_option("labelled_reject", 0.02, 0.05, 0.2), *_option("top_k", 1, 10)),
    ),
    Table(
        "Labels and regions without an original label", COCO, _MASKS,
        (
            *_option("label_threshold", 0.05, 0.08, 0.2),
            Variant("no second opinion", {}, {_OPINION: 0.0}), Variant("second opinion weighted 0.5", {}, {_OPINION: 0.5}),
            *_option("confusion", 1.0), *_option("merge_iou", 0.5, 2.0), *_option("reject", 0.0, 0.05), *_option("top_k", 1, 10),
        ),
    ),
    Table(
        "Finding regions beside an original label", IMAGENET, _OBJECT,
        (
            *_option("max_upscale", 0.0, 1.0, 2.0), *_SEEN, *_option("peaks", 0),
            Variant("object grown at 0.4 only", {}, {_LEVELS: (0.4,)}),
            Variant("object grown at 0.4 and 0.65", {}, {_LEVELS: (0.4, 0.65)}),
        ),
    ),
    Table(
        "Finding regions without an original label", COCO, _MASKS,
        (*_option("max_upscale", 1.0), *_SEEN, *_PEAKS, *_ROUNDS),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Photographs:
    """A set of photographs.

    Attributes:
        name: IMAGENET or COCO.
        images: Their folder.
        truth: What people say about them.
        options: Build options that they need.
    """

    name: str
    images: Path
    truth: Truth
    options: dict[str, Any]


def open_sets(imagenet: Path, coco: Path, limit: int) -> dict[str, Photographs]:
    """Return both sets by name; `limit` images of each are built, 0 for all."""
    boxes, masks = open_truth("boxes", str(imagenet / "truth.json")), open_truth("masks", str(coco))
    return {
        IMAGENET: Photographs(IMAGENET, imagenet / "val", boxes, {"limit": limit}),
        COCO: Photographs(COCO, coco / "images", masks, {"limit": limit, "unlabelled": True}),
    }


@contextmanager
def replaced(constants: Mapping[str, Any]) -> Iterator[None]:
    """Replace attributes of modules or classes, given by dotted name, until the block ends."""
    with ExitStack() as stack:
        for name, value in constants.items():
            stack.enter_context(mock.patch(name, value))
        yield


def build(photographs: Photographs, variant: Variant, work: Path) -> Path:
    """Build a variant below `work` and return its dataset; it starts from the default's regions if it can."""
    out = work / photographs.name / variant.slug
    if variant != DEFAULT and not variant.finds_regions and not (out / REGIONS).exists():
        OutputFolder.open(out, "build").claim(REGIONS.parts[0])
        shutil.copytree(work / photographs.name / DEFAULT.slug / REGIONS, out / REGIONS)
    with replaced(variant.constants):
        relabel(BuildConfig(images=str(photographs.images), out=str(out), **photographs.options, **variant.options))
    return out
