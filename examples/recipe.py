"""The options of train.py: a YAML file, then the command line, which wins."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LABEL_LOSSES", "LOSSES", "VECTOR_LOSSES", "VIEW_LOSSES", "parse"]

LOSSES = {
    "bce": "binary cross-entropy over the classes whose presence in the crop is decided",
    "asl": "asymmetric loss over the same classes",
    "softmax": "cross-entropy after a softmax; of pooled targets, or of the label with --labels single",
    "an": "single label, all others assumed absent",
    "an-ls": "the same with label smoothing",
    "em": "single label, entropy of all others maximised",
    "epr": "single label, --positives classes an image expected",
    "consistency": "an, and scores that agree with earlier epochs'",
    "spatial": "an, and class maps that agree with earlier epochs'",
    "byproducts": "bce, and the place of a click regressed (--byproducts)",
}
LABEL_LOSSES = ("an", "an-ls", "em", "epr", "consistency", "spatial")  # take the original label only
VECTOR_LOSSES = ("bce", "asl", "byproducts")  # take a value for each class
VIEW_LOSSES = ("spatial", "byproducts")  # want crops and flips only


def make_parser(text: str) -> argparse.ArgumentParser:
    """Declare all options; `text` describes the script."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("root", help="the ImageNet folder, with train/ (and val/ for --val-split); COCO's or VOC's with --dataset")
    add("--config", type=Path, help="YAML file of these options; the command line wins")
    add("--dataset", choices=["imagenet", "coco", "voc2007", "voc2012"], default="imagenet", help="what root holds")
    add("--annotations", help="built dataset's folder or Hub id (default: as MultiLabelImageNet finds it)")
    add("--labels", choices=["crop", "image", "single"], default="crop",
        help="classes that the crop shows; those of the whole image (the paper's loader); the original label")  # fmt: skip
    add("--targets", choices=["ignore", "hard", "soft"], default="ignore",
        help="--loss bce, asl: 1 or 0, undecided classes left out; 1 or 0 for all; scores (the paper's)")  # fmt: skip
    add("--original", choices=["as-others", "always"], default="as-others",
        help="--loss bce, asl: the original label like every class, or 1 whatever the crop (the paper's)")  # fmt: skip
    add("--val-split", default="", help="annotated split to evaluate on after each epoch (default: none)")
    add("--model", default="resnet50", help="name of a timm model, or of a torchvision one as torchvision:NAME")
    add(
        "--init",
        type=Path,
        help="weights to start from: a checkpoint of this script, or a state dict (.pt, .safetensors)",
    )
    add("--loss", choices=list(LOSSES), default="bce", help="; ".join(f"{k}: {v}" for k, v in LOSSES.items()))
    add("--extra-weight", type=float, default=1.0, help="weight of the second part of a loss of two")
    add("--positives", type=float, default=1.2, help="--loss epr: expected classes an image")
    add("--byproducts", type=Path, help="--loss byproducts: ImageNet-AB's folder")
    add("--augment", choices=["none", "rand", "three"], default="none",
        help="beside crops and flips: RandAugment, or DeiT III's 3-Augment with colour jitter")  # fmt: skip
    add("--mixup", type=float, default=0.0, help="alpha (default: 0, none)")
    add("--cutmix", type=float, default=0.0, help="alpha (default: 0, none)")
    add("--drop-path", type=float, default=0.0, help="timm models: stochastic depth")
    add("--image-size", type=int, default=224, help="pixels a side")
    add("--epochs", type=int, default=90, help="passes over the images")
    add("--steps", type=int, default=0, help="stop an epoch after so many steps (default: 0, all)")
    add("--batch-size", type=int, default=128, help="images a process")
    add("--optimizer", choices=["adamw", "sgd", "lamb"], default="adamw", help="lamb is timm's")
    add("--lr", type=float, default=1e-3, help="peak learning rate")
    add("--warmup", type=float, default=0.05, help="share of all steps with a rising learning rate")
    add("--weight-decay", type=float, default=0.05, help="of all but biases and norms")
    add("--clip-grad", type=float, default=0.0, help="largest norm of the gradient (default: 0, any)")
    add("--workers", type=int, default=8, help="processes that read images, of each process that trains")
    add("--seed", type=int, default=0, help="of weights, order, crops")
    add("--precision", choices=["bf16", "fp16", "fp32"], default="bf16", help="of the forward on CUDA")
    add("--out", type=Path, default=Path("run"), help="folder of the checkpoint")
    add("--resume", type=Path, help="checkpoint to go on from")
    for action in parser._actions:
        if action.default not in (None, "", argparse.SUPPRESS) and "(default:" not in str(action.help):
            action.help = f"{action.help} (default: %(default)s)"
    return parser


def parse(text: str, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options of a configuration file and of the command line; what does not fit together ends the program."""
    parser = make_parser(text)
    first, _ = parser.parse_known_args(arguments)
    if first.config is not None:
        parser.set_defaults(**read_config(parser, first.config))
    args = parser.parse_args(arguments)
    if args.dataset != "imagenet" and (args.loss not in ("bce", "asl") or args.labels != "crop"):
        parser.error(
            f"--dataset {args.dataset} has labels of whole images for --loss bce or asl, not regions or clicks"
        )
    plain = args.targets == "ignore" and args.original == "as-others"
    if not plain and (args.loss not in VECTOR_LOSSES or args.labels == "single" or args.dataset != "imagenet"):
        parser.error("--targets and --original are for --loss bce, asl, byproducts with --labels crop or image")
    if args.loss in VIEW_LOSSES and args.augment == "rand":
        parser.error(f"--loss {args.loss} follows crops and flips only: RandAugment also turns and shears")
    if (args.mixup or args.cutmix) and args.loss not in ("bce", "asl", "softmax"):
        parser.error(f"--mixup and --cutmix mix the targets of --loss bce, asl and softmax, not of {args.loss}")
    if (args.loss == "byproducts") != (args.byproducts is not None):
        parser.error("--loss byproducts and --byproducts DIR belong together")
    if args.init and args.resume:
        parser.error("--init starts a run, --resume goes on with one: give one of them")
    return args


def read_config(parser: argparse.ArgumentParser, path: Path) -> dict[str, object]:
    """Return the options of a YAML file, of the types that the command line gives them."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"--config {path}: {error}")
    known = {action.dest: action for action in parser._actions if action.option_strings}
    if not isinstance(values, dict):
        parser.error(f"--config {path}: not a mapping of options")
    out: dict[str, object] = {}
    for name, value in values.items():
        action = known.get(str(name).replace("-", "_"))
        if action is None or action.dest in ("config", "help"):
            parser.error(f"--config {path}: no option {name!r}; there are {', '.join(sorted(known))}")
        if isinstance(value, bool | list | dict) or value is None:
            parser.error(f"--config {path}: {name} is {value!r}, wanted one value")
        try:
            out[action.dest] = action.type(str(value)) if action.type else str(value)  # type: ignore[operator]
        except ValueError:
            parser.error(f"--config {path}: {name} is {value!r}")
        if action.choices and out[action.dest] not in action.choices:
            parser.error(f"--config {path}: {name} is {value!r}, one of {', '.join(map(str, action.choices))}")
    return out
