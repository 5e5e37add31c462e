"""`mlimagenet info`."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from mlimagenet_data.commands.common import add_annotations, command, say, say_json

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the subcommand."""
    parser = command(commands, "info", _info, "Summarize a dataset: rows, files, classes and origin.")
    add_annotations(parser)


def _info(given: argparse.Namespace) -> None:
    found = _facts(given.annotations, given.split)
    if given.json:
        say_json(found)
        return
    statuses = ", ".join(f"{count} {name}" for name, count in found["statuses"].items())
    say(
        f"folder      {found['folder']}",
        f"splits      {', '.join(found['splits'])}; showing {found['split']}",
        f"rows        {found['rows']}{f' ({statuses})' if statuses else ''}",
        f"files       {found['shards']}, {found['bytes'] / 1e6:.1f} MB{', with images' if found['embeds_images'] else ''}",
        f"classes     {found['classes']} of ImageNet-1k",
        f"schema      version {found['schema_version'] or 'unknown: no build_manifest.json'}",
        *(f"{name:<11} {text}" for name, text in _origin(found)),
    )


def _facts(annotations: str, split: str) -> dict[str, Any]:
    from mlimagenet_data.annotations.shards import annotation_files
    from mlimagenet_data.classes import NUM_CLASSES
    from mlimagenet_data.files.parquet import open_parquet, read_batches
    from mlimagenet_data.files.reading import read_manifest

    files = annotation_files(annotations, split)
    folder = files[0].parent.parent
    statuses: Counter[str] = Counter()
    embeds = False
    for file in files:
        embeds |= "image" in open_parquet(file).schema_arrow.names
        for _, batch in read_batches(file, ["status"]):
            statuses.update(str(status) for status in batch.column("status").to_pylist())
    manifest = read_manifest(folder)
    part = manifest.get("splits", {}).get(split, {})
    return {
        "folder": str(folder), "split": split,
        "splits": sorted({file.name.rpartition("-of-")[0].rpartition("-")[0] for file in folder.glob("data/*.parquet")}),
        "rows": statuses.total(), "statuses": dict(statuses.most_common()), "shards": len(files),
        "bytes": sum(file.stat().st_size for file in files), "embeds_images": embeds, "classes": NUM_CLASSES,
        "schema_version": manifest.get("schema_version"),
        **{name: part.get(name) for name in ("config", "networks", "versions", "imported")},
    }  # fmt: skip


def _origin(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (name, text) lines on the origin of the rows. The manifest may be untrusted."""
    lines = []
    if isinstance(imported := found["imported"], dict):
        left_out = imported.get("left_out", 0)
        lines.append(("imported", f"{imported.get('form')} {imported.get('source')}, {left_out} entries skipped"))
    for network in found["networks"] if isinstance(found["networks"], list) else []:
        if isinstance(network, dict):
            lines.append(("network", f"{network.get('source')} ({network.get('licence')})"))
    for stage, options in found["config"].items() if isinstance(found["config"], dict) else []:
        if isinstance(options, dict):
            lines.append((str(stage), ", ".join(f"{name}={value}" for name, value in sorted(options.items()))))
    if isinstance(found["versions"], dict):
        lines.append(("versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items())))
    return lines
