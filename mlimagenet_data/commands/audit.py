"""`mlimagenet audit`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.commands.common import (
    add_annotations,
    check_outputs,
    command,
    inputs_of,
    open_store,
    progress,
    say,
    say_json,
    whole,
)
from mlimagenet_data.errors import MLImageNetError

if TYPE_CHECKING:
    from mlimagenet_data.annotations.audit import Audit, Finding
    from mlimagenet_data.annotations.locate import ImageLocator
    from mlimagenet_data.annotations.store import AnnotationStore
    from mlimagenet_data.annotations.suspects import ClassReport
    from mlimagenet_data.commands.predicted import Predicted

__all__ = ["add"]

_TEXT = """\
Rank images by how likely their labels are wrong, most suspicious first.

The ranking uses the published scores, each the probability that a person
would agree with the label; an original label that is not among the labels
scores 0. With --predictions, it uses a network's probabilities instead, and
cleanlab finds the suspected labels; it needs several images per class.
Predictions of a network trained on these very images are not out-of-sample.
Split the images into k parts, and predict each with a network trained on the
others.

Each image gets a verdict on its original label:

  agrees      the original label scores best
  weaker      the original label was seen, but another class scores better
  replaced    the original label was not seen, but another class clearly was
  unseen      the original label was not seen, and no other class clearly was
  unlabelled  the image has no original label (only with --of labels)

A class is seen if its probability is at least 0.1, and clearly seen if it is
at least 0.5, so more likely there than not. Without --predictions, labels
below 0.5 are suspected. The number expected to be wrong is as good as the
probabilities are.

Nothing is changed."""


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "audit", _audit, _TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example: mlimagenet audit DATASET --verdict replaced --images path/to/imagenet"
    add_annotations(parser)
    parser.add_argument(
        "--of",
        choices=("original", "labels"),
        default="original",
        help="Judge the original labels, or the new ones (default: original).",
    )
    parser.add_argument(
        "--predictions", metavar="FILE", type=Path,
        help="Judge by out-of-sample logits, saved by mlimagenet eval --save-predictions (.safetensors, or .npy with "
        "one row per readable image). Needs cleanlab.",
    )  # fmt: skip
    parser.add_argument(
        "--activation",
        choices=("softmax", "sigmoid"),
        default="softmax",
        help="Turns logits into probabilities; sigmoid for multi-label models (default: softmax).",
    )
    parser.add_argument(
        "--top", metavar="N", type=whole(0), default=20, help="Number of images or classes to list (default: 20)."
    )
    parser.add_argument("--verdict", metavar="NAME", help="List only images with this verdict (default: all).")
    parser.add_argument(
        "--by-class",
        action="store_true",
        help="List classes instead of images, those with the most wrong labels first.",
    )
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="Your copy of the images; the listed ones are drawn in --sheet."
    )
    parser.add_argument(
        "--sheet", metavar="FILE.png", type=Path,
        help="Picture to write with --images (default: audit.png).",
    )  # fmt: skip


def _audit(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.audit import audit
    from mlimagenet_data.annotations.locate import open_copy

    _check(given)
    store, predicted = open_store(given.annotations, given.split), None
    copy = open_copy(given.images, store) if given.images else None
    if given.predictions:
        from mlimagenet_data.commands.predicted import open_predicted

        predicted = open_predicted(given.predictions, store, given.activation)
    with progress("audit", len(store.usable_rows()), " images") as advance:
        result = audit(store, of=given.of, predictions=predicted.chunks if predicted else None, advance=advance)
    if not len(result.quality):
        what, other = ("an original label", "--of labels") if given.of == "original" else ("a label", "--of original")
        raise MLImageNetError(
            f"{given.annotations}: none of {result.read} images of split {given.split} has {what} to judge; try {other}"
        )
    listed = result.findings(store, given.top, given.verdict)
    if given.json:
        say_json(_facts(result, listed, store, predicted))
    else:
        lines = map(_class_line, result.classes[: given.top]) if given.by_class else map(_line, listed)
        none = [f"no image has the verdict {given.verdict}"] if given.verdict and not listed and given.top else []
        say(*_summary(result, store, predicted, given), "", *lines, *none)
    if copy and listed:
        _draw(given, store, copy, listed)


def _check(given: argparse.Namespace) -> None:
    from mlimagenet_data.annotations.audit import VERDICTS

    if given.verdict and given.verdict not in VERDICTS:
        raise MLImageNetError(f"--verdict {given.verdict}: must be one of {', '.join(VERDICTS)}")
    if given.verdict and given.by_class:
        raise MLImageNetError("--verdict lists images and --by-class lists classes; pass only one of them")
    if given.sheet and not given.images:
        raise MLImageNetError(f"--sheet {given.sheet}: needs --images, your copy of the images that it shows")
    given.sheet = given.sheet or Path("audit.png")
    if given.images:
        from mlimagenet_data.annotations.locate import split_folder

        inputs = inputs_of(given.annotations, given.predictions, split_folder(given.images, given.split))
        check_outputs(inputs, picture=given.sheet)


def _facts(result: Audit, listed: list[Finding], store: AnnotationStore, predicted: Predicted | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "counts": result.counts(),
        "suspected": sum(report.suspected for report in result.classes),
        "wrong": sum(report.wrong for report in result.classes),
    }
    if predicted:
        facts["without_prediction"] = len(store.usable_rows()) - result.read
        facts["unmatched_predictions"] = predicted.unmatched
    return facts | {
        "findings": [finding.as_dict() for finding in listed],
        "classes": [report.as_dict() for report in result.classes],
    }


def _summary(
    result: Audit, store: AnnotationStore, predicted: Predicted | None, given: argparse.Namespace
) -> list[str]:
    from mlimagenet_data.annotations.audit import VERDICTS

    counts, what = result.counts(), "original labels" if given.of == "original" else "labels"
    lines = [f"{counts[name]:>8} {name}: {text}" for name, text in VERDICTS.items() if counts[name]]
    labels, suspected = (sum(getattr(r, name) for r in result.classes) for name in ("images", "suspected"))
    wrong = sum(report.wrong for report in result.classes)
    lines.append(f"{suspected:>8} of {labels} {what} suspected; by their probabilities, {wrong:.1f} are wrong")
    if predicted:
        usable = len(store.usable_rows())
        if missing := usable - result.read:
            lines.append(f"{missing:>8} of {usable} readable images have no prediction and are left out")
        if predicted.unmatched:
            lines.append(f"{predicted.unmatched:>8} predictions are of images that the dataset lacks or could not read")
    return lines


def _line(finding: Finding) -> str:
    names, f = imagenet_classes().names, finding
    original = "-" if f.original is None else f"{names[f.original]} {f.original_score:.2f}"
    best = "-" if f.best is None else f"{names[f.best]} {f.best_score:.2f}"
    labels = ", ".join(f"{names[index]} {score:.2f}" for index, score in f.labels[:4])
    return f"{f.quality:.3f} {f.verdict:<8} {f.image_id}: original {original}; best {best}; labels {labels or '-'}"


def _class_line(report: ClassReport) -> str:
    names = imagenet_classes().names
    instead = "" if report.instead is None else f"; seen instead: {names[report.instead]} ({report.instead_images})"
    counts = f"{report.wrong:>8.1f} of {report.images:<5} wrong, {report.suspected:>4} suspected"
    return f"{counts}: {names[report.label]}{instead}"


def _draw(given: argparse.Namespace, store: AnnotationStore, copy: ImageLocator, listed: list[Finding]) -> None:
    from mlimagenet_data.annotations.sheet import write_sheet
    from mlimagenet_data.files.single import PICTURE_MARK, write_new
    from mlimagenet_data.images import load_image

    records = [store.record(finding.row) for finding in listed]
    items = [(load_image(copy.path(record)), record) for record in records]
    write_new(given.sheet, lambda path: write_sheet(path, items), mark=PICTURE_MARK)
    if not given.json:
        say(f"picture sheet: {given.sheet}")
