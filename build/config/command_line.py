"""The command line of `python -m build.run`, made from BuildConfig, a YAML file and presets."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from build.config.fields import types_of
from build.config.options import BuildConfig, ConfigError
from build.config.presets import PRESETS
from build.config.safe_yaml import VALUE_ERRORS, load_yaml
from mlimagenet_data.files.printing import ArgumentParser, shown

__all__ = ["VERBS", "CommandLine", "from_mapping", "parse", "parse_verb", "read_command_line"]

VERBS = {
    "status": "show how far a build is, and what remains to be done",
    "verify": "hash every file of a build, and list those that have changed; the next run makes them again",
}
_MOST_BYTES = 1 << 16  # of a configuration file; all options take about 5 kB
_GROUPS = ("input", "output", "running", "regions", "naming", "labels")
_USAGE = """\
python -m build.run [OPTIONS]
       python -m build.run status OUT    show how far a build is, and what remains to be done
       python -m build.run verify OUT    hash every file of a build, and list those that have changed"""
_DESCRIPTION = """\
Relabel an image folder automatically, without human annotation.

Cut the patch features of a frozen network into object regions (MaskCut), name every region with a classifier, and write
the result as a Parquet dataset that load_dataset("mlimagenet") and mlimagenet_data.MultiLabelImageNet read.

Run the same command again to resume a stopped build. A build keeps its settings until you change them; then only the
stages that they affect run again.

Exit codes: 0 if every image has a row, 1 for errors, 2 for a wrong command line, 130 if stopped."""
_EPILOG = """\
examples:
  python -m build.run --demo                          eight photographs, about a minute, no download
  python -m build.run --images imagenet --out mlimagenet
  python -m build.run --images imagenet --out mlimagenet --plan
                                                      hours, disk, what is missing; builds nothing
  python -m build.run --images photos --unlabelled --out labelled --sheet 30
  python -m build.run --out mlimagenet --stage labels --label-threshold 0.4
                                                      new labels from the regions found before;
                                                      then --stage publish writes them
  torchrun --nproc-per-node 4 -m build.run --out mlimagenet --stage labeler --head mlp
                                                      train the labeler on four GPUs; then run the rest"""


def parse_verb(arguments: Sequence[str] | None = None) -> tuple[str, str] | None:
    """Return the verb and the output folder of a command line such as `status OUT`; None if it starts no verb."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in VERBS:
        return None
    verb = given[0]
    parser = ArgumentParser(prog=f"python -m build.run {verb}", description=VERBS[verb].capitalize() + ".")
    parser.add_argument("out", metavar="OUT", help="The dataset folder, or its URL.")
    return verb, parser.parse_args(given[1:]).out


class CommandLine(NamedTuple):
    """A command line.

    Attributes:
        config: Its configuration: the command line overrides the YAML file, which overrides the preset.
        given: Names of the options that any of these gives.
        verbose: Whether to print details.
        plan: Whether to say what the build would take, and not to build.
    """

    config: BuildConfig
    given: set[str]
    verbose: bool
    plan: bool


def parse(arguments: Sequence[str] | None = None) -> BuildConfig:
    """Return the configuration of a command line.

    Raises:
        ConfigError: If an option is wrong.
    """
    return read_command_line(arguments).config


def read_command_line(arguments: Sequence[str] | None = None) -> CommandLine:
    """Return what a command line says.

    Raises:
        ConfigError: If an option is wrong.
    """
    given = vars(_parser().parse_args(arguments))
    verbose, plan = given.pop("verbose"), given.pop("plan")
    source, preset = given.pop("config", None), given.pop("preset", None)
    loaded = _read(source) if source else {}
    preset = preset or loaded.get("preset")
    loaded = {name: value for name, value in loaded.items() if name != "preset"}
    if preset not in (None, *PRESETS):
        raise ConfigError(f"{source}: preset: {shown(preset)}; it must be one of {', '.join(PRESETS)}")
    values = {**(PRESETS[preset] if preset else {}), **from_mapping(loaded, source or ""), **given}
    return CommandLine(BuildConfig(**values), set(values), verbose, plan)


def _read(source: str) -> dict[str, Any]:
    try:
        with open(source, "rb") as file:  # also a FIFO, which shells make of <(...)
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"must have at most {_MOST_BYTES} bytes")
        loaded = load_yaml(content.decode("utf-8")) or {}
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"config: {source}: {error}") from error
    except VALUE_ERRORS as error:
        raise ConfigError(f"config: {source}: a value is not of its tag's type: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"config: {source}: it nests too deeply") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"config: {source}: expected a mapping of options to values, found {type(loaded).__name__}")
    return loaded


class _HelpExpert(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        _parser(expert=True).print_help()
        parser.exit()


def _parser(*, expert: bool = False) -> ArgumentParser:
    """Return the parser; it takes all options, and its help shows those that are for experts, or the others."""
    parser = ArgumentParser(
        prog="python -m build.run",
        usage=_USAGE,
        description="Expert options. In a YAML file, they may be grouped under `expert:`." if expert else _DESCRIPTION,
        epilog=None if expert else _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--help-expert",
        nargs=0,
        action=_HelpExpert,
        default=argparse.SUPPRESS,
        help="Show the expert options and exit.",
    )
    add("--config", metavar="FILE.yaml", help="Read options from a YAML file; the command line overrides it.")
    add("--preset", choices=sorted(PRESETS), help="Start from a named group of settings. All presets download weights. "
        "paper: the recipe of arXiv 2603.05729, which needs --label-maps. dinov3: our recipe with DINOv3 ViT-L/16, 512 px. "
        "cutler: DINO ViT-B/8, tau 0.15. dinov2: DINOv2 ViT-L/14, Apache-2.0 weights.")  # fmt: skip
    add("--verbose", action="store_true", help="Print how long each part of a stage took.")
    add("--plan", action="store_true", help="Say what the build would take, from a trial on some of its images: hours, "
        "GPU-hours, disk, and what is missing. Write nothing to --out.")  # fmt: skip
    groups = {name: parser.add_argument_group(name) for name in _GROUPS}
    for declared in fields(BuildConfig):
        meta = declared.metadata
        shown = meta["expert"] == expert
        groups[meta["group"]].add_argument(
            f"--{declared.name.replace('_', '-')}", default=argparse.SUPPRESS, **_kind(declared),
            help=_help(declared) if shown else argparse.SUPPRESS,
        )  # fmt: skip
    return parser


def _kind(declared: Any) -> dict[str, Any]:
    default, meta = declared.default, declared.metadata
    if bool in types_of(BuildConfig, declared.name):
        return {"action": argparse.BooleanOptionalAction}
    names = {int: "N", float: "X"}.get(type(default), "NAME")
    choices = "{" + ",".join(meta["choices"]) + "}" if meta["choices"] else ""
    return {"type": type(default) if default is not None else str, "metavar": choices or meta["metavar"] or names}


def _help(declared: Any) -> str:
    default = declared.default
    shown = (
        ""
        if default is None or default is False
        else f" (default: {default:g})"
        if isinstance(default, float)
        else f" (default: {default})"
    )
    return str(declared.metadata["help"]).replace("%", "%%") + shown


def from_mapping(values: dict[str, Any], source: str | Path) -> dict[str, Any]:
    """Return the options in a file, with `-` in names turned into `_` and the section `expert` merged in.

    Raises:
        ConfigError: If a name is unknown; the message suggests the closest one.
    """
    known = {declared.name for declared in fields(BuildConfig)}
    common = {key: value for key, value in values.items() if key != "expert"}
    expert = values.get("expert")
    if not isinstance(expert, dict | None):
        raise ConfigError(f"{source}: expert: expected a mapping of options to values, found {type(expert).__name__}")
    out = {}
    for key, value in [*common.items(), *(expert or {}).items()]:
        name = key.replace("-", "_") if isinstance(key, str) else ""
        if name not in known:
            close = difflib.get_close_matches(name[:80], known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{source}: unknown option {shown(key)}{hint}")
        out[name] = value
    return out
