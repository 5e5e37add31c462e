"""The build manifest: inputs, settings, versions and results of a published dataset."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from build.config.options import STAGES, digest
from build.images.listing import digest_of
from build.records import RegionsRow, read_rows
from build.state.ledger import LedgerEntry
from build.state.plan import LABELER_FILE, Plan, Unit
from mlimagenet_data.annotations.schema import SCHEMA_VERSION, USABLE_STATUSES
from mlimagenet_data.errors import AnnotationError, StateError
from mlimagenet_data.files.outputs import OutputFolder
from mlimagenet_data.files.reading import read_manifest as manifest_in

__all__ = ["bottleneck", "read_manifest", "updated_manifest"]

_MOST_FAILURES = 1000
_PATHS = ("weights", "classifier_weights", "region_weights", "label_maps", "byproducts")
_ABSOLUTE = re.compile(r"(?:^|:)(?:[A-Za-z]:)?[/\\~]")


def read_manifest(out: Path) -> dict[str, Any]:
    """Return the manifest of a dataset folder, or an empty one."""
    return manifest_in(out) or {"schema_version": SCHEMA_VERSION, "splits": {}}


def updated_manifest(plan: Plan, files: list[str], out: OutputFolder) -> dict[str, Any]:
    """Return the manifest with this split's part as of now.

    The caller holds the lock of shared files: runs of other splits may have rewritten the manifest.
    """
    if plan.remote is not None:
        plan.remote.pull(out.path / "build_manifest.json")
    try:
        manifest = read_manifest(out.path)
    except AnnotationError as error:
        raise StateError(
            f"{error}; delete {out.path / 'build_manifest.json'}, and run `--stage publish` for each split"
        ) from error
    manifest["schema_version"] = SCHEMA_VERSION
    manifest["splits"][plan.config.split] = _split(plan, files)
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
    units = {stage: plan.shards for stage in STAGES} | {
        "labeler": [Unit(LABELER_FILE, 0, 0)], "publish": [Unit(file, 0, 0) for file in files],
    }  # fmt: skip
    # as used by every unit, not this run's options
    config = {stage: _without_folders(plan.settings_of(stage, units[stage])) for stage in STAGES}
    statuses = _sum(entries["publish"], "statuses")
    labels = entries["labels"]
    labeler = {key: value for key, value in entries["labeler"][0].facts.items() if key != "seconds"}
    return {
        "config": config,
        "config_sha256": digest(config),
        "versions": _versions([entry for stage in STAGES for entry in entries[stage]]),
        "inputs": {
            "images": len(images),
            "sha256": digest_of(images, times=False),
            "left_out": dict(sorted(plan.listing.left_out.items())),
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
        "networks": _networks(entries["regions"]),
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


def _without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with paths shortened to their last part, since the manifest is published."""
    return {
        name: Path(value).name if isinstance(value, str) and (name in _PATHS or _ABSOLUTE.search(value)) else value
        for name, value in settings.items()
    }


def _versions(entries: list[LedgerEntry]) -> dict[str, Any]:
    """Return the versions of the packages that made the units; a list where units were made with several."""
    found: dict[str, list[Any]] = {}
    for entry in entries:
        for name, version in (entry.versions or {}).items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return {name: sorted(several, key=str) if len(several) > 1 else several[0] for name, several in found.items()}


def _networks(entries: list[LedgerEntry]) -> list[dict[str, str]]:
    found = [network for entry in entries for network in entry.facts["networks"]]
    return [network for k, network in enumerate(found) if network not in found[:k]]


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
        found = read_rows(plan.ledger("regions").read(shard.file), RegionsRow, "file_name", "status", "reason")
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
