"""`mlimagenet compare`."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.commands.common import (
    add_annotations,
    check_outputs,
    check_plot,
    command,
    fraction,
    inputs_of,
    open_store,
    progress,
    say,
    say_json,
    whole,
)
from mlimagenet_data.errors import MLImageNetError

if TYPE_CHECKING:
    from mlimagenet_data.evaluate.compare.bootstrap import Estimate, Figure
    from mlimagenet_data.evaluate.compare.report import Comparison, GroupFigures
    from mlimagenet_data.evaluate.sets.truth import Truth

__all__ = ["add"]

_TEXT = """\
Compare a dataset's labels and regions with people's, beside the single label.

TRUTH is KIND:PATH. The kind names what people said, the path where it is:

  real         folder of ImageNet validation images; ReaL labels
  multilabel   the same images; the annotations of Shankar et al. and
               Vasudevan et al.; needs --labels
  imagenet-m   the 68 images of ImageNet-M, from the same file; needs --labels
  v2           folder of ImageNet-V2; single labels or --labels
  imagenet-s   folder of ImageNet-S
  annotations  another dataset of this project
  boxes        boxes of the original class, with or without label sets: a JSON
               file, or a folder of ImageNet's XML files
  masks        folder with masks of objects

Images are matched by id, so copies may name their files differently. Every
figure has a 95% bootstrap interval over images. Images that the dataset lacks
count as images without labels."""

_KINDS = ("real", "multilabel", "imagenet-m", "v2", "imagenet-s", "annotations", "boxes", "masks")
_LABELLED = ("multilabel", "imagenet-m")  # kinds that need --labels
_VALIDATION = ("real", "multilabel", "imagenet-m")  # kinds whose images may be in one flat folder
_TITLES = {"labels": "labels", "scores": "scores", "regions": "regions", "crops": "random crops"}
_NAMES = {
    "f1": "F1", "precision": "precision", "recall": "recall", "added": "added labels", "added_right": "  share right",
    "others_found": "other true labels found", "labels_per_image": "labels per image", "best_right": "best label is true",
    "f1_of_1": "F1 of images with 1 true label", "f1_of_2": "  2 true labels", "f1_of_3": "  3 true labels",
    "f1_of_4_or_more": "  4 or more", "ece": "calibration error", "ece_original": "  original labels",
    "ece_added": "  added labels", "wrong_auroc": "AUROC of wrong originals", "wrong_not_best": "wrong originals not best",
    "corloc": "CorLoc", "loc_named": "named and located", "regions_per_image": "regions per image",
    "best_iou_5pct": "best IoU, objects over 5%", "best_iou_1pct": "  objects over 1%", "recall_iou50": "recall at IoU 0.5",
    "ar10": "average recall", "grounded": "named regions on object", "grounded_of": "  number of them", "map": "mAP",
    "best_f1": "best F1", "wrong": "told wrongly", "there_kept": "object there, named", "gone_told": "object gone, not named",
    "balanced": "mean of both", "empty": "object there, empty target", "crops": "decided crops",
    "multi_object": "two or more found", "map_classes": "  classes in it",
}  # fmt: skip
_COUNTED = ("added", "grounded_of", "map_classes", "crops")  # whole numbers


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "compare", _compare, _TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example: mlimagenet compare DATASET real:path/to/imagenet/val"
    add_annotations(parser)
    parser.add_argument("truth", metavar="TRUTH", help="What people said, as KIND:PATH.")
    parser.add_argument(
        "--labels", metavar="FILE", type=Path,
        help="Labels of the truth. real: real.json (default: timm's copy). multilabel, imagenet-m: "
        "human_accuracy_v3.0.0.json. v2: the same, or Multilabelfy's refined labels.",
    )  # fmt: skip
    parser.add_argument(
        "--class-list", metavar="FILE", type=Path,
        help="real, multilabel, imagenet-m: original classes of images in one flat folder; see `mlimagenet eval --help`.",
    )  # fmt: skip
    parser.add_argument(
        "--min-score", metavar="S", type=fraction, default=0.5,
        help="annotations: labels of the truth score at least this (default: 0.5).",
    )  # fmt: skip
    parser.add_argument(
        "--against", metavar="DATASET", help="Another dataset; print the paired differences from it as well."
    )
    parser.add_argument(
        "--crops", metavar="N", type=whole(0, 10_000), default=20,
        help="boxes, masks: number of random crops per image (default: 20; 0: none).",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap",
        metavar="N",
        type=whole(0, 1_000_000),
        default=2000,
        help="Number of draws for the intervals (default: 2000).",
    )
    parser.add_argument(
        "--seed", metavar="N", type=whole(0, 2**63 - 1), default=0, help="Seed of draws and crops (default: 0)."
    )
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="Save all figures as JSON.")
    parser.add_argument(
        "--plot", metavar="FILE.png", type=Path, help="Draw calibration, and F1 by number of true labels."
    )


def _compare(given: argparse.Namespace) -> None:
    from mlimagenet_data.evaluate.compare.report import compare
    from mlimagenet_data.files.single import PICTURE_MARK, write_new

    _check(given)
    truth = _open(given)
    if given.plot and not truth.has_labels:
        raise MLImageNetError(f"--plot {given.plot}: needs a truth with label sets; {given.truth} has none")
    store = open_store(given.annotations, given.split)
    other = open_store(given.against, given.split) if given.against else None
    steps = given.bootstrap + 1 + (len(truth) if given.crops and (truth.boxes or truth.masks) else 0)
    with progress("compare", steps, " steps") as advance:
        found = compare(truth, store, other, crops=given.crops, draws=given.bootstrap, seed=given.seed, advance=advance)
    facts = {"dataset": given.annotations, "against": given.against, "seed": given.seed, **found.as_dict()}
    if given.out:
        text = json.dumps(facts, indent=1) + "\n"
        write_new(given.out, lambda path: path.write_text(text, encoding="utf-8"))
    if given.plot:
        from mlimagenet_data.evaluate.compare.plot import plot

        write_new(given.plot, lambda path: plot(found, path, Path(given.annotations).name), mark=PICTURE_MARK)
    if given.json:
        say_json(facts)
    else:
        _print(found, given)


def _check(given: argparse.Namespace) -> None:
    """Reject arguments that would only fail later."""
    kind, colon, path = given.truth.partition(":")
    if kind not in _KINDS or not colon or not path:
        raise MLImageNetError(f"TRUTH {given.truth}: must be KIND:PATH, where KIND is one of {', '.join(_KINDS)}")
    if kind in _LABELLED and not given.labels:
        raise MLImageNetError(f"TRUTH {given.truth}: needs --labels; see --help")
    if given.labels and kind not in ("real", "v2", *_LABELLED):
        raise MLImageNetError(f"--labels {given.labels}: only for real, v2, {', '.join(_LABELLED)}")
    if given.class_list and kind not in _VALIDATION:
        raise MLImageNetError(f"--class-list {given.class_list}: only for {', '.join(_VALIDATION)}")
    check_plot(given.plot)
    for file in (given.out, given.plot):
        if file and (file.is_dir() or not file.absolute().parent.is_dir()):
            raise MLImageNetError(f"{file}: must be a file in an existing folder")
    inputs = inputs_of(path, given.labels, given.class_list, given.annotations, given.against)
    check_outputs(inputs, given.out, picture=given.plot)


def _open(given: argparse.Namespace) -> Truth:
    from mlimagenet_data.evaluate.sets.opening import open_truth

    kind, _, path = given.truth.partition(":")
    return open_truth(
        kind, path, labels=given.labels, class_list=given.class_list, split=given.split, min_score=given.min_score
    )


def _print(found: Comparison, given: argparse.Namespace) -> None:
    skipped = "".join(f", {count} left out ({why})" for why, count in found.skipped.items())
    say(f"{given.annotations} against {given.truth}: {found.images} images{skipped}")
    no_crops = ", and get no crops" if "crops" in found.groups else ""
    for name, missing, more in ((given.annotations, found.missing, no_crops), (given.against, found.other_missing, "")):
        if missing:
            say(f"{name} lacks {missing} of them; they count as images without labels and regions{more}")
    if found.draws:
        say(f"in brackets: 95% intervals, {found.draws} bootstrap draws over images")
    for name, group in found.groups.items():
        say("", *_table(_TITLES[name], group, given.against))


def _table(title: str, group: GroupFigures, against: str | None) -> list[str]:
    """Return a group's lines: a figure per line, beside the baseline's and the other dataset's."""
    has_baseline = any(figure.baseline for figure in group.figures.values())
    heads = [title, "dataset", *([group.baseline, "difference"] if has_baseline else [])]
    rows = [heads + ([against, "difference"] if against else [])]
    rows[0] = [head[-25:] for head in rows[0]]
    for name, figure in group.figures.items():
        digits = 0 if name in _COUNTED else 3
        rows.append([_named(name), *_cells(figure, digits, has_baseline, against is not None)])
    width = max(len(row[0]) for row in rows) + 2
    return ["".join(f"{cell:<{width if k == 0 else 26}}" for k, cell in enumerate(row)).rstrip() for row in rows]


def _cells(figure: Figure, digits: int, has_baseline: bool, has_other: bool) -> list[str]:
    pairs = [(figure.baseline, figure.difference)] * has_baseline + [
        (figure.other, figure.other_difference)
    ] * has_other
    beside = [cell for one, difference in pairs for cell in (_shown(one, digits), _shown(difference, digits, "+"))]
    return [_shown(figure.value, digits), *beside]


def _named(name: str) -> str:
    figure, at, threshold = name.partition("@")
    return f"{_NAMES[figure]} at score {threshold}" if at else _NAMES[figure]


def _shown(found: Estimate | None, digits: int, sign: str = "") -> str:
    if found is None or math.isnan(found.value):
        return "-"
    value = f"{found.value:{sign}.{digits}f}"
    return value if math.isnan(found.low) else f"{value} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"
