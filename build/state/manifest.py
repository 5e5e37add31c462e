"""The build manifest: inputs, settings, versions and results of a published dataset."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import Any

from build.config.options import STAGES, ConfigError, digest
from build.images.listing import digest_of
from build.records import RegionsRow, read_rows
from build.state.ledger import LedgerEntry, write_json
from build.state.plan import LABELER_FILE, Plan
from mlimagenet_data.annotations.schema import SCHEMA_VERSION, USABLE_STATUSES
from mlimagenet_data.files.reading import read_manifest as manifest_in
from mlimagenet_data.files.reading import version_of

__all__ = ["bottleneck", "read_manifest", "refuse_imports", "write_manifest"]

_PACKAGES = ("mlimagenet-data", "torch", "torchvision", "timm", "numpy", "scipy", "pillow", "pyarrow", "datasets")
_MOST_FAILURES = 1000


def read_manifest(out: Path) -> dict[str, Any]:
    """Return the manifest of a dataset folder, or an empty one."""
    return manifest_in(out) or {"schema_version": SCHEMA_VERSION, "splits": {}}


def refuse_imports(out: Path) -> None:
    """Refuse a folder with imported splits: their part of the manifest lacks what a build's card needs.

    Raises:
        ConfigError: If the folder holds imported splits.
    """
    imported = sorted(name for name, split in read_manifest(out)["splits"].items() if "imported" in split)
    if imported:
        raise ConfigError(f"out: {out} holds imported annotations (split {imported[0]}); choose another folder")


def write_manifest(plan: Plan, files: list[str]) -> dict[str, Any]:
    """Rewrite this split's part of the manifest, and return the whole manifest."""
    out = plan.config.folder
    if plan.remote is not None:
        plan.remote.pull(out / "build_manifest.json")  # another machine may have published other splits
    manifest = read_manifest(out)
    manifest["schema_version"] = SCHEMA_VERSION
    manifest["splits"][plan.config.split] = _split(plan, files)
    write_json(out / "build_manifest.json", manifest)
    return manifest


def _split(plan: Plan, files: list[str]) -> dict[str, Any]:
    shards = [shard.file for shard in plan.shards]
    entries = {
        "regions": [plan.entry("regions", file) for file in shards],
        "labeler": [plan.entry("labeler", LABELER_FILE)],
        "labels": [plan.entry("labels", file) for file in shards],
        "publish": [plan.entry("publish", file) for file in files],
    }
    images = plan.listing.images
    config = {stage: entries[stage][0].settings for stage in STAGES}  # as used, not this run's options
    statuses = _sum(entries["publish"], "statuses")
    labels = entries["labels"]
    labeler = {key: value for key, value in entries["labeler"][0].facts.items() if key != "seconds"}
    return {
        "config": config,
        "config_sha256": digest(config),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}},
        "inputs": {
            "images": len(images),
            "sha256": digest_of(images, times=False),
            "other_files_ignored": dict(sorted(plan.listing.ignored.items())),
        },
        "rows": sum(entry.rows for entry in entries["publish"]),
        "statuses": statuses,
        "failures": _failures(plan, statuses),
        "proposals": sum(entry.facts["regions"] for entry in entries["regions"]),
        "rejected": sum(entry.facts["rejected"] for entry in labels),
        "regions": sum(entry.facts["regions"] for entry in labels),
        "labels": sum(entry.facts["labels"] for entry in labels),
        "images_by_number_of_labels": _sum(entries["publish"], "label_counts"),
        "with_original_label": sum(entry.facts["with_original"] for entry in labels),
        "original_label_found": sum(entry.facts["original_found"] for entry in labels),
        "networks": entries["regions"][0].facts["networks"],
        "label_maps": _sum(entries["regions"], "label_maps"),
        "byproducts": _sum(entries["regions"], "byproducts"),
        "labeler": labeler,
        "seconds": {stage: _sum(entries[stage], "seconds") for stage in STAGES},
        "regions_bottleneck": bottleneck(_sum(entries["regions"], "seconds")),
        "files": {
            entry.file: {"sha256": entry.sha256, "bytes": entry.size, "rows": entry.rows}
            for entry in entries["publish"]
        },
    }


def bottleneck(seconds: dict[str, float]) -> str:
    """Return the slowest part of the regions stage; decoding counts only while the device waits for it."""
    waited = seconds.get("wait for decoding", 0.0)
    parts = {"decode": waited, **{name: seconds.get(name, 0.0) for name in ("forward", "cut")}}
    return max(parts, key=lambda name: parts[name])


def _sum(entries: list[LedgerEntry], fact: str) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for entry in entries:
        total.update(entry.facts[fact])
    return {key: round(value, 3) for key, value in sorted(total.items())}


def _failures(plan: Plan, statuses: dict[str, int]) -> list[dict[str, str]]:
    """Return the first images that could not be read, with the reasons."""
    rows: list[RegionsRow] = []
    if set(statuses) <= USABLE_STATUSES:
        return []
    for shard in plan.shards:
        found = read_rows(plan.ledger("regions").fetched(shard.file), RegionsRow, "file_name", "status", "reason")
        rows += [row for row in found if row.reason is not None]
        if len(rows) >= _MOST_FAILURES:
            break
    return [
        {"file_name": row.file_name, "status": row.status, "reason": _short_reason(plan, row.reason or "")}
        for row in rows[:_MOST_FAILURES]
    ]


def _short_reason(plan: Plan, reason: str) -> str:
    """Remove the root folder from a reason, since the manifest is published."""
    return reason.replace(f"{plan.listing.root}/", "")
