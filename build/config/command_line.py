"""The command line of `python -m build.run`: every option of the configuration, a file of them, and presets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from build.config.options import BuildConfig, ConfigError, from_mapping
from build.config.presets import PRESETS

__all__ = ["arguments_of", "configuration", "parse"]

_GROUPS = {
    "input": "what to relabel",
    "output": "what to write",
    "run": "how to run",
    "regions": "stage 1, regions",
    "labeler": "stage 2, labeler",
    "labels": "stage 3, labels",
    "publish": "stage 4, publish",
}
_DESCRIPTION = """\
Relabel an image folder without human labels.

Patch features of a frozen network are cut into object regions (MaskCut); regions that agree with the image's original
label can train a small labeler; the labeler names every region; an image's labels are its regions' classes. The result is
a Parquet dataset that load_dataset("mlimagenet") and mlimagenet_data.MultiLabelImageNet read.

A run that was stopped goes on where it was; a run with other settings does again what they change."""
_EPILOG = """\
examples:
  python -m build.run --demo                          eight photographs, about a minute, no download
  python -m build.run --images imagenet --out mlimagenet
  python -m build.run --images photos --unlabelled --out labelled --sheet 30
  torchrun --nproc-per-node 4 -m build.run --out mlimagenet --stage labeler --head mlp
                                                      the labeler trained on four GPUs
  python -m build.run --out mlimagenet --stage labels --label-threshold 0.4
                                                      other labels from the regions found before"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m build.run",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="FILE.yaml", help="Options by the same names; those on the command line win."
    )
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="Settings that go together; options given by name win. paper: DINOv3 ViT-L/16 at 512 px. cutler: DINO ViT-B/8, tau "
        "0.15. dinov2: ViT-L/14, whose weights are under Apache-2.0. All need weights to be downloaded.",
    )
    parser.add_argument(
        "--status",
        metavar="OUT",
        default=argparse.SUPPRESS,
        help="Say how far a build is, and what a run would do, and end.",
    )
    parser.add_argument(
        "--verify", metavar="OUT", default=argparse.SUPPRESS, help="Hash all files of a build again, name those that are not "
        "what was written, and end.",
    )  # fmt: skip
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    for option in fields(BuildConfig):
        meta = option.metadata
        arguments: dict[str, Any] = {"default": argparse.SUPPRESS}
        text = meta["help"].replace("%", "%%")
        if isinstance(option.default, bool):
            arguments["action"] = argparse.BooleanOptionalAction if option.default else "store_true"
        else:
            arguments["type"] = type(option.default) if option.default is not None else str
            arguments["metavar"] = (
                "{" + ",".join(meta["choices"]) + "}"
                if meta["choices"]
                else meta["metavar"] or _metavar(option.default)
            )
        default = "" if option.default is None or option.default is False else f" (default: {_shown(option.default)})"
        groups[meta["group"]].add_argument(f"--{option.name.replace('_', '-')}", help=text + default, **arguments)
    return parser


def _metavar(default: Any) -> str:
    return {int: "N", float: "X"}.get(type(default), "NAME" if default is not None else "DIR")


def _shown(default: Any) -> str:
    return "on" if default is True else str(default)


def parse(arguments: Sequence[str] | None = None) -> BuildConfig:
    """Return the configuration of a command line and the file that its --config names.

    Raises:
        ConfigError: If an option is wrong.
    """
    return configuration(arguments_of(arguments))


def arguments_of(arguments: Sequence[str] | None) -> dict[str, Any]:
    """Return what a command line gives, by name: options of BuildConfig, `config`, `preset`, `status`, `verify`."""
    return vars(_parser().parse_args(arguments))


def configuration(given: dict[str, Any]) -> BuildConfig:
    """Return the configuration that given options, and the file and the preset that they name, make.

    Raises:
        ConfigError: If an option is wrong.
    """
    source = given.pop("config", None)
    values: dict[str, Any] = dict(PRESETS.get(given.pop("preset", None) or "", {}))
    if source is not None:
        try:
            loaded = yaml.safe_load(Path(source).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"config: {source}: {error}") from error
        if not isinstance(loaded, dict):
            raise ConfigError(
                f"config: {source}: a mapping of options to values expected, found a {type(loaded).__name__}"
            )
        values.update(from_mapping(loaded, source))
    config = BuildConfig(**{**values, **given})
    if config.demo and config.images:
        raise ConfigError("demo: --demo and --images exclude each other")
    return config
