"""`mlimagenet eval`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.commands.common import command, say, say_json
from mlimagenet_data.errors import MLImageNetError

if TYPE_CHECKING:
    from mlimagenet_data.evaluate.predictions import Predictions
    from mlimagenet_data.evaluate.report import Report
    from mlimagenet_data.evaluate.sets.examples import EvaluationSet

__all__ = ["add"]

_TEXT = """\
Measures a classifier against all valid labels of images. --data KIND:FOLDER says which images: folder (class folders), real
(ImageNet's validation images with ReaL labels), multilabel and imagenet-m (with the annotations of Shankar et al. and Vasudevan
et al.), v2 (ImageNet-V2), imagenet-s (ImageNet-S), annotations (of this project). Under torchrun, processes share the images."""

_KINDS = ("folder", "real", "multilabel", "imagenet-m", "v2", "imagenet-s", "annotations")
_LABELLED = ("multilabel", "imagenet-m", "annotations")  # kinds that need --labels
_VALIDATION = ("real", "multilabel", "imagenet-m")  # kinds of images that may lie in one folder


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "eval", _eval, _TEXT)
    parser.add_argument("--data", metavar="KIND:FOLDER", required=True, help=f"Images; KIND is {', '.join(_KINDS)}.")
    parser.add_argument(
        "--labels", metavar="FILE",
        help="real: real.json (default: timm's copy); multilabel, imagenet-m, v2: human_accuracy_v3.0.0.json; v2: or "
        "Multilabelfy's refined labels; annotations: the dataset's folder or Hub id.",
    )  # fmt: skip
    parser.add_argument(
        "--class-list", metavar="FILE", type=Path,
        help="real, multilabel, imagenet-m: original classes of images in one folder: Kaggle's LOC_val_solution.csv, "
        "Caffe's val.txt, or 50,000 wnids; not the development kit's.",
    )  # fmt: skip
    parser.add_argument("--split", default="train", help="annotations: the split (default: train).")
    parser.add_argument(
        "--min-score", type=float, default=0.5, help="annotations: labels count from it on (default: 0.5)."
    )
    parser.add_argument("--partial", action="store_true", help="Images may be missing from a published set.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="NAME", help="A timm model, torchvision:NAME, or embedded.")
    source.add_argument(
        "--predictions", metavar="FILE", type=Path, help="Evaluate saved logits (.safetensors, .npy) instead."
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="The model's weights: .safetensors, or a state dict."
    )
    parser.add_argument(
        "--image-size", metavar="N", type=int, help="Side of a timm model's input (default: the model's)."
    )
    parser.add_argument("--batch-size", metavar="N", type=int, default=64, help="Images at a time (default: 64).")
    parser.add_argument("--device", help="Where the model runs (default: a GPU if there is one).")
    parser.add_argument("--amp", action="store_true", help="Half precision: float16 on GPUs, bfloat16 elsewhere.")
    parser.add_argument("--workers", metavar="N", type=int, default=0, help="Processes that read images (default: 0).")
    parser.add_argument(
        "--activation",
        choices=("softmax", "sigmoid"),
        default="softmax",
        help="From logits to probabilities (default: softmax).",
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="Classes are predicted from it on (default: 0.5).")
    parser.add_argument("--top-k", metavar="K", type=int, default=1, help="Or the K best classes are (default: 1).")
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="Write all metrics.")
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="Draw them. Needs matplotlib.")
    parser.add_argument("--save-predictions", metavar="FILE", type=Path, help="Keep the logits: .safetensors or .npy.")


def _eval(given: argparse.Namespace) -> None:
    from mlimagenet_data.evaluate.predictions import load_predictions, probabilities, save_predictions
    from mlimagenet_data.evaluate.report import evaluate

    _check(given)
    data = _open(given)
    predictions = load_predictions(given.predictions, data.files) if given.predictions else _predict(given, data)
    if predictions is None:  # another process of torchrun has them all
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
        given.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if given.plot:
        from mlimagenet_data.evaluate.plot import plot

        plot(report, given.plot, predictions.model)
    if given.json:
        say_json(facts)
    else:
        _print(report, predictions)


def _check(given: argparse.Namespace) -> None:
    """Refuse what could only fail after the model has run."""
    kind, colon, folder = given.data.partition(":")
    if kind not in _KINDS or not colon or not folder:
        raise MLImageNetError(f"--data {given.data}: it must be KIND:FOLDER with one of the kinds {', '.join(_KINDS)}")
    if kind in _LABELLED and not given.labels:
        raise MLImageNetError(f"--data {given.data}: it needs --labels, see --help")
    if given.class_list and kind not in _VALIDATION:
        raise MLImageNetError(f"--class-list {given.class_list}: it is for --data {', '.join(_VALIDATION)}")
    for name in ("threshold", "min_score"):
        if not 0 <= getattr(given, name) <= 1:
            raise MLImageNetError(f"--{name.replace('_', '-')} {getattr(given, name)}: it must be from 0 to 1")
    if given.image_size is not None and given.image_size < 1:
        raise MLImageNetError(f"--image-size {given.image_size}: it must be 1 or more")
    if given.batch_size < 1 or given.workers < 0 or not 1 <= given.top_k <= 50:
        raise MLImageNetError("--batch-size must be 1 or more, --workers 0 or more, --top-k from 1 to 50")
    if given.save_predictions and given.save_predictions.suffix not in (".safetensors", ".npy"):
        raise MLImageNetError(f"--save-predictions {given.save_predictions}: its name must end in .safetensors or .npy")
    if given.plot and importlib.util.find_spec("matplotlib") is None:
        raise MLImageNetError("--plot needs matplotlib: pip install 'mlimagenet-data[eval]'")
    for path in (given.out, given.plot, given.save_predictions):
        if path and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise MLImageNetError(f"{path}: its folder does not exist, or it is a folder itself")


def _open(given: argparse.Namespace) -> EvaluationSet:
    kind, _, folder = given.data.partition(":")
    root, partial = Path(folder), given.partial
    labels = Path(given.labels) if given.labels else None
    if kind == "annotations":
        from mlimagenet_data.annotations.store import AnnotationStore
        from mlimagenet_data.evaluate.sets.annotations import open_annotations

        return open_annotations(root, AnnotationStore(given.labels, given.split), min_score=given.min_score)
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
        "top-1 of the original label": report.top1, "top-5": report.top5, "best class is a valid one": report.accuracy,
        "mean of that over classes": report.class_mean_accuracy, f"mAP of {report.map_classes} classes": report.map,
        "mAP of images": report.map_samples, f"F1 from {report.threshold:g} on, micro": report.at_threshold.micro.f1,
        "  macro": report.at_threshold.macro.f1, f"F1 of the {report.k} best, micro": report.at_top_k.micro.f1,
        "  macro ": report.at_top_k.macro.f1, "F1 at thresholds by count, macro": report.at_counts.macro.f1,
        "  by count of original labels": report.at_original_counts.macro.f1,
        "calibration error": report.calibration.error,
    }  # fmt: skip
    say(f"{predictions.model} on {report.data}: {report.evaluated} of {report.images} images{unread}{skipped}")
    say(*(f"{name:<34}{'-' if math.isnan(value) else f'{100 * value:.2f}%'}" for name, value in rows.items()))
    for name, group in report.by_labels.items():
        if group.images:
            figures = f"{100 * group.accuracy:.2f}% right, mAP {100 * group.map_samples:.2f}%"
            say(f"{f'images with {name} valid':<34}{figures} ({group.images} images)")
    for file, why in predictions.failures[:20]:
        say(f"not read: {file}: {why}")
    if len(predictions.failures) > 20:
        say(f"and {len(predictions.failures) - 20} more; --out writes all")
