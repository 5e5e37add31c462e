"""The options of train.py, read from a YAML file and the command line; the command line wins."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LABEL_LOSSES", "LOSSES", "VECTOR_LOSSES", "VIEW_LOSSES", "parse"]

LOSSES = {
    "bce": "binary cross-entropy over the classes whose presence in the crop is decided",
    "asl": "asymmetric loss over the same classes",
    "softmax": "softmax cross-entropy with pooled targets, or with the label (--labels single)",
    "an": "single label; every other class is assumed absent",
    "an-ls": "an with label smoothing",
    "em": "single label; maximises the entropy of every other class",
    "epr": "single label; expects --positives classes per image",
    "consistency": "an, plus agreement with the scores of earlier epochs",
    "spatial": "an, plus agreement with the class maps of earlier epochs",
    "byproducts": "bce, plus regression of a click's position (--byproducts)",
}
LABEL_LOSSES = ("an", "an-ls", "em", "epr", "consistency", "spatial")  # use the original label only
VECTOR_LOSSES = ("bce", "asl", "byproducts")  # use a value per class
VIEW_LOSSES = ("spatial", "byproducts")  # allow crops and flips only


def make_parser(text: str) -> argparse.ArgumentParser:
    """Return a parser with all options; `text` describes the script."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("root", help="ImageNet folder with train/ (and val/ for --val-split), or the COCO or VOC folder for --dataset")
    add("--config", type=Path, help="YAML file of options; the command line overrides it")
    add("--dataset", choices=["imagenet", "coco", "voc2007", "voc2012"], default="imagenet", help="dataset in root")
    add("--annotations", help="folder of a built dataset, or hf:USER/NAME (default: found as by MultiLabelImageNet)")
    add("--labels", choices=["crop", "image", "single"], default="crop",
        help="crop: classes that the crop shows; image: classes of the whole image (the paper's loader); "
        "single: the original label")  # fmt: skip
    add("--targets", choices=["ignore", "hard", "soft"], default="ignore",
        help="for --loss bce, asl and byproducts. ignore: 1 or 0, undecided classes are ignored; "
        "hard: 1 or 0 for every class; soft: scores (the paper's)")  # fmt: skip
    add("--original", choices=["unless_gone", "as_others", "always"], default="unless_gone",
        help="for --loss bce, asl and byproducts. unless_gone: 1 unless the crop surely lost it; "
        "as_others: treat the original label like every class; "
        "always: 1 whatever the crop (the paper's)")  # fmt: skip
    add("--label-score", type=float, default=0.0, help="ImageNet's labels that score lower do not count, the original label "
        "aside (default: 0, all count; 0.5 for labels imported from the paper's files)")  # fmt: skip
    add("--val-split", default="", help="annotated split to evaluate after each epoch (default: none)")
    add("--model", default="resnet50", help="timm model, or torchvision:NAME for a torchvision model")
    add(
        "--init",
        type=Path,
        help="initial weights: a checkpoint of this script, or a state dict (.pt, .safetensors)",
    )
    add("--loss", choices=list(LOSSES), default="bce", help="; ".join(f"{k}: {v}" for k, v in LOSSES.items()))
    add("--extra-weight", type=float, default=1.0, help="--loss consistency, spatial, byproducts: second term's weight")
    add("--positives", type=float, default=1.2, help="--loss epr: expected classes per image")
    add("--byproducts", type=Path, help="--loss byproducts: folder of ImageNet-AB")
    add("--augment", choices=["none", "rand", "three"], default="none",
        help="besides crops and flips. rand: RandAugment; three: DeiT III's 3-Augment with colour jitter")  # fmt: skip
    add("--mixup", type=float, default=0.0, help="MixUp's alpha (default: 0, off)")
    add("--cutmix", type=float, default=0.0, help="CutMix's alpha (default: 0, off)")
    add("--drop-path", type=float, default=0.0, help="stochastic depth rate, for timm models")
    add("--image-size", type=int, default=224, help="pixels per side")
    add("--epochs", type=int, default=90, help="passes over the images")
    add("--steps", type=int, default=0, help="maximum steps per epoch (default: 0, all)")
    add("--batch-size", type=int, default=128, help="images per process")
    add("--optimizer", choices=["adamw", "sgd", "lamb"], default="adamw", help="lamb comes from timm")
    add("--lr", type=float, default=1e-3, help="peak learning rate")
    add("--warmup", type=float, default=0.05, help="fraction of all steps over which the learning rate rises")
    add("--weight-decay", type=float, default=0.05, help="weight decay, except for biases and norms")
    add("--clip-grad", type=float, default=0.0, help="maximum norm of the gradient (default: 0, off)")
    add("--workers", type=int, default=min(8, os.cpu_count() or 1), help="data-loading workers per process")
    add("--seed", type=int, default=0, help="seed of weights, order and crops")
    add("--precision", choices=["bf16", "fp16", "fp32"], default="bf16", help="precision of the forward pass on CUDA")
    add("--out", type=Path, default=Path("runs/train"), help="folder for the checkpoint")
    add("--resume", type=Path, help="checkpoint of a run to continue")
    for action in parser._actions:
        if action.default not in (None, "", argparse.SUPPRESS) and "(default:" not in str(action.help):
            action.help = f"{action.help} (default: %(default)s)"
    return parser


def parse(text: str, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a configuration file and the command line; exit if they conflict."""
    parser = make_parser(text)
    first, _ = parser.parse_known_args(arguments)
    if first.config is not None:
        parser.set_defaults(**read_config(parser, first.config))
    args = parser.parse_args(arguments)
    if args.dataset != "imagenet" and (args.loss not in ("bce", "asl") or args.labels != "crop"):
        parser.error(
            f"--dataset {args.dataset} has labels of whole images only; it needs --loss bce or asl and --labels crop"
        )
    plain = args.targets == "ignore" and args.original == "unless_gone"
    if not plain and (args.loss not in VECTOR_LOSSES or args.labels == "single" or args.dataset != "imagenet"):
        parser.error("--targets and --original need ImageNet, --loss bce, asl or byproducts and --labels crop or image")
    if args.loss in VIEW_LOSSES and args.augment == "rand":
        parser.error(
            f"--loss {args.loss} cannot follow RandAugment's rotations and shears; use --augment none or three"
        )
    if (args.mixup or args.cutmix) and args.loss not in ("bce", "asl", "softmax"):
        parser.error(f"--mixup and --cutmix need --loss bce, asl or softmax, not {args.loss}")
    if (args.loss == "byproducts") != (args.byproducts is not None):
        parser.error("--loss byproducts and --byproducts DIR: give both or neither")
    if args.init and args.resume:
        parser.error("--init starts a run and --resume continues one; give only one of them")
    return args


def read_config(parser: argparse.ArgumentParser, path: Path) -> dict[str, object]:
    """Return the options in a YAML file, converted to the types of the command line."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"--config {path}: {error}")
    known = {action.dest: action for action in parser._actions if action.option_strings}
    if not isinstance(values, dict):
        parser.error(f"--config {path}: the file must be a mapping from option to value")
    out: dict[str, object] = {}
    for name, value in values.items():
        action = known.get(str(name).replace("-", "_"))
        if action is None or action.dest in ("config", "help"):
            parser.error(f"--config {path}: unknown option {name!r}; choose from {', '.join(sorted(known))}")
        if isinstance(value, bool | list | dict) or value is None:
            parser.error(f"--config {path}: {name} must be a single value, not {value!r}")
        try:
            out[action.dest] = action.type(str(value)) if action.type else str(value)  # type: ignore[operator]
        except ValueError:
            parser.error(f"--config {path}: {name} must be of type {action.type.__name__}, not {value!r}")
        if action.choices and out[action.dest] not in action.choices:
            parser.error(f"--config {path}: {name} must be one of {', '.join(action.choices)}, not {value!r}")
    return out
