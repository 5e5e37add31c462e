"""`mlimagenet eval`."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.commands.common import (
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
    from mlimagenet_data.evaluate.predictions import Predictions
    from mlimagenet_data.evaluate.report import Report
    from mlimagenet_data.evaluate.sets.examples import EvaluationSet

__all__ = ["add"]

_TEXT = """\
Evaluate a classifier against all valid labels of each image.

--data KIND:FOLDER names the kind of set and the folder of its images:

  folder       images in class folders, one label each
  real         ImageNet validation with ReaL labels
  multilabel   ImageNet validation with the annotations of Shankar et al. and
               Vasudevan et al.; needs --labels
  imagenet-m   the 68 images of ImageNet-M, from the same file; needs --labels
  v2           ImageNet-V2, with single labels or --labels
  imagenet-s   ImageNet-S
  annotations  images with annotations of this project; needs --labels

Under torchrun, processes share the images."""

_KINDS = ("folder", "real", "multilabel", "imagenet-m", "v2", "imagenet-s", "annotations")
_LABELLED = ("multilabel", "imagenet-m", "annotations")  # kinds that need --labels
_OWN_LABELS = ("folder", "imagenet-s")  # kinds without label files
_VALIDATION = ("real", "multilabel", "imagenet-m")  # kinds whose images may be in one flat folder


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "eval", _eval, _TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example: mlimagenet eval --model resnet50 --data real:path/to/imagenet/val"
    parser.add_argument(
        "--data", metavar="KIND:FOLDER", required=True, help=f"Set to evaluate on; KIND: {', '.join(_KINDS)}."
    )
    parser.add_argument(
        "--labels", metavar="FILE",
        help="Labels of the set. real: real.json (default: timm's copy). multilabel, imagenet-m: "
        "human_accuracy_v3.0.0.json. v2: the same, or Multilabelfy's refined labels. annotations: dataset folder, or "
        "hf:USER/NAME.",
    )  # fmt: skip
    parser.add_argument(
        "--class-list", metavar="FILE", type=Path,
        help="real, multilabel, imagenet-m: original classes of images in one flat folder. Kaggle's "
        "LOC_val_solution.csv, Caffe's val.txt, or 50,000 wnids; the development kit's list is not supported.",
    )  # fmt: skip
    parser.add_argument("--split", default="train", help="annotations: split to read (default: train).")
    parser.add_argument(
        "--min-score", metavar="S", type=fraction, default=0.5, help="annotations: ignore lower scores (default: 0.5)."
    )
    parser.add_argument("--partial", action="store_true", help="Accept a copy of a published set with missing images.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="NAME", help="timm model, torchvision:NAME, or embedded.")
    source.add_argument(
        "--predictions", metavar="FILE", type=Path, help="Saved logits (.safetensors, .npy); runs no model."
    )
    parser.add_argument("--weights", metavar="FILE", type=Path, help="Weights to load: .safetensors, or a state dict.")
    parser.add_argument(
        "--image-size", metavar="N", type=whole(1), help="Input size of a timm model (default: the model's own)."
    )
    parser.add_argument("--batch-size", metavar="N", type=whole(1), default=64, help="Images per batch (default: 64).")
    parser.add_argument("--device", help="Device to run on, such as cuda:1 (default: a GPU if available).")
    parser.add_argument("--amp", action="store_true", help="Use half precision: float16 on GPUs, bfloat16 elsewhere.")
    parser.add_argument(
        "--workers", metavar="N", type=whole(0), default=0, help="Number of processes that read images (default: 0)."
    )
    parser.add_argument(
        "--activation",
        choices=("softmax", "sigmoid"),
        default="softmax",
        help="Turns logits into probabilities; sigmoid for multi-label models (default: softmax).",
    )
    parser.add_argument(
        "--threshold", metavar="P", type=fraction, default=0.5,
        help="Predict classes with at least this probability (default: 0.5).",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", metavar="K", type=whole(1, 50), default=1, help="Also report F1 of the K best classes (default: 1)."
    )
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="Write all metrics to this file.")
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="Plot the metrics. Needs matplotlib.")
    parser.add_argument("--save-predictions", metavar="FILE", type=Path, help="Save the logits: .safetensors or .npy.")


def _eval(given: argparse.Namespace) -> None:
    from mlimagenet_data.evaluate.predictions import load_predictions, probabilities, save_predictions
    from mlimagenet_data.evaluate.report import evaluate
    from mlimagenet_data.files.single import PICTURE_MARK, write_new

    _check(given)
    data = _open(given)
    if not data.evaluated.any():
        why = "; ".join(f"{count} images: {why}" for why, count in Counter(e.skipped for e in data.examples).items())
        raise MLImageNetError(f"--data {given.data}: no image to evaluate ({why or 'it holds none'})")
    predictions = load_predictions(given.predictions, data.files) if given.predictions else _predict(given, data)
    if predictions is None:  # under torchrun, only the first process has them
        return
    if given.save_predictions:
        save_predictions(given.save_predictions, predictions, data.files)
    scores = probabilities(predictions.logits, given.activation)
    report = evaluate(scores, data, threshold=given.threshold, k=given.top_k)
    facts = {
        "model": predictions.model,
        "activation": given.activation,
        **report.as_dict(),
        "failures": predictions.failures,
    }
    if given.out:
        text = json.dumps(facts, indent=1) + "\n"
        write_new(given.out, lambda path: path.write_text(text, encoding="utf-8"))
    if given.plot:
        from mlimagenet_data.evaluate.plot import plot

        write_new(given.plot, lambda path: plot(report, path, predictions.model), mark=PICTURE_MARK)
    if given.json:
        say_json(facts)
    else:
        _print(report, predictions)


def _check(given: argparse.Namespace) -> None:
    """Reject arguments that would only fail after the model has run."""
    kind, colon, folder = given.data.partition(":")
    if kind not in _KINDS or not colon or not folder:
        raise MLImageNetError(f"--data {given.data}: must be KIND:FOLDER, where KIND is one of {', '.join(_KINDS)}")
    if kind in _LABELLED and not given.labels:
        raise MLImageNetError(f"--data {given.data}: needs --labels; see --help")
    if given.class_list and kind not in _VALIDATION:
        raise MLImageNetError(f"--class-list {given.class_list}: only for --data {', '.join(_VALIDATION)}")
    if given.labels and kind in _OWN_LABELS:
        raise MLImageNetError(f"--labels {given.labels}: not for --data {kind}, whose labels are in its folder")
    for name in ("weights", "image_size", "device", "amp"):
        if given.predictions and getattr(given, name):
            raise MLImageNetError(f"--{name.replace('_', '-')}: only with --model; --predictions runs no model")
    if given.save_predictions and given.save_predictions.suffix not in (".safetensors", ".npy"):
        raise MLImageNetError(f"--save-predictions {given.save_predictions}: the name must end in .safetensors or .npy")
    check_plot(given.plot)
    for path in (given.out, given.plot, given.save_predictions):
        if path and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise MLImageNetError(f"{path}: must be a file in an existing folder")
    inputs = inputs_of(folder, given.labels, given.class_list, given.weights, given.predictions)
    check_outputs(inputs, given.out, given.save_predictions, picture=given.plot)


def _open(given: argparse.Namespace) -> EvaluationSet:
    kind, _, folder = given.data.partition(":")
    root, partial = Path(folder), given.partial
    labels = Path(given.labels) if given.labels else None
    if kind == "annotations":
        from mlimagenet_data.evaluate.sets.annotations import open_annotations

        store = open_store(given.labels, given.split)
        with progress("labels", len(store.usable_rows()), " images") as advance:
            return open_annotations(root, store, min_score=given.min_score, advance=advance)
    if kind == "imagenet-s":
        from mlimagenet_data.evaluate.sets.imagenet_s import open_imagenet_s

        return open_imagenet_s(root)
    if kind == "folder":
        from mlimagenet_data.evaluate.sets.folder import open_folder

        return open_folder(root)
    if kind == "v2":
        from mlimagenet_data.evaluate.sets.imagenet_v2 import open_v2

        return open_v2(root, labels, partial=partial)
    if kind == "real":
        from mlimagenet_data.evaluate.sets.real import open_real

        return open_real(root, labels, class_list=given.class_list, partial=partial)
    from mlimagenet_data.evaluate.sets.multilabel import open_imagenet_m, open_multilabel

    assert labels is not None
    opened = {"multilabel": open_multilabel, "imagenet-m": open_imagenet_m}
    return opened[kind](root, labels, class_list=given.class_list, partial=partial)


def _predict(given: argparse.Namespace, data: EvaluationSet) -> Predictions | None:
    from mlimagenet_data.evaluate.networks import open_network
    from mlimagenet_data.evaluate.predict import open_device, predict

    device = open_device(given.device)
    network = open_network(given.model, given.weights, given.image_size)
    return predict(
        network, data, batch_size=given.batch_size, device=device, amp=given.amp, workers=given.workers, progress=True
    )


def _print(report: Report, predictions: Predictions) -> None:
    skipped = "".join(f", {count} skipped ({why})" for why, count in report.skipped.items())
    unread = f", {report.unread} not read" if report.unread else ""
    rows = {
        "top-1 of original label": report.top1, "top-5": report.top5, "best class is valid": report.accuracy,
        "  mean over original classes": report.class_mean_accuracy,
        f"mAP over {report.map_classes} classes": report.map, "mAP over images": report.map_samples,
        f"F1 at threshold {report.threshold:g}, micro": report.at_threshold.micro.f1,
        "  macro": report.at_threshold.macro.f1, f"F1 of top {report.k}, micro": report.at_top_k.micro.f1,
        "  macro ": report.at_top_k.macro.f1, "F1 at count thresholds, macro": report.at_counts.macro.f1,
        "  counts of original labels": report.at_original_counts.macro.f1,
        "calibration error": report.calibration.error,
    }  # fmt: skip
    say(f"{predictions.model} on {report.data}: {report.evaluated} of {report.images} images{unread}{skipped}")
    say(*(f"{name:<34}{'-' if math.isnan(value) else f'{100 * value:.2f}%'}" for name, value in rows.items()))
    for name, group in report.by_labels.items():
        if group.images:
            figures = f"{100 * group.accuracy:.2f}% correct, mAP {100 * group.map_samples:.2f}%"
            say(f"{f'images with {name} valid':<34}{figures} ({group.images} images)")
    for file, why in predictions.failures[:20]:
        say(f"not read: {file}: {why}")
    if len(predictions.failures) > 20:
        say(f"and {len(predictions.failures) - 20} more; --out FILE.json lists all")
