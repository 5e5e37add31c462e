"""The plan of a build: its images, its units of work and the folder of its intermediate results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from build.config.options import BuildConfig, ConfigError, digest
from build.images.listing import SCHEMA, ImageInput, Images, Listing, digest_of, stamps_of
from build.images.listing_check import stamps_now
from build.images.sources import list_images
from build.state.ledger import Ledger, LedgerEntry, changed_settings
from build.state.lock import Lease
from build.state.remote import Remote
from mlimagenet_data.errors import StateError
from mlimagenet_data.files.atomic import write_atomic

__all__ = [
    "LABELER_FILE",
    "Plan",
    "Unit",
    "inputs_digest",
    "make_plan",
    "read_plan",
    "remote_of",
    "write_listing",
    "write_table",
]

LABELER_FILE = "labeler.safetensors"  # the one unit of the labeler stage


@dataclass(frozen=True)
class Unit:
    """A unit of a stage's work: the images [start, stop) of the listing, and the file to write."""

    file: str
    start: int
    stop: int

    @property
    def images(self) -> int:
        """Number of images."""
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """A build.

    Attributes:
        config: Its configuration.
        listing: Its images.
        work: The folder of its intermediate results.
        lease: The run's right to commit; None to read only.
        is_listed: Whether the images were listed in this run, and not in an earlier one.
    """

    config: BuildConfig
    listing: Listing
    work: Path
    lease: Lease | None = None
    is_listed: bool = False

    @property
    def shards(self) -> list[Unit]:
        """The images in fixed ranges, independent of the number of workers."""
        size, total = self.config.shard_size, len(self.listing.images)
        return [Unit(f"{i:05d}.parquet", i * size, min((i + 1) * size, total)) for i in range(-(-total // size))]

    def images(self, unit: Unit) -> list[ImageInput]:
        """Return the images of a unit."""
        return self.listing.images[unit.start : unit.stop]

    def stamps(self, unit: Unit) -> str:
        """Return the hash of the times and inodes of a unit's image files."""
        images = self.images(unit)
        return stamps_of(images) if self.is_listed else stamps_now(self.listing.root, images)

    @cached_property
    def remote(self) -> Remote | None:
        """The store of a remote output; None if the output is local."""
        return remote_of(self.config)

    def ledger(self, stage: str) -> Ledger:
        """Return a stage's ledger."""
        return Ledger(self.work / stage, self.remote, self.lease)

    def push(self, *paths: Path) -> None:
        """Copy files of a remote output's working copy to the store, in this order; do nothing for a local one."""
        if self.remote is not None:
            for path in paths:
                self.remote.push(path)

    def settings_of(self, stage: str, units: Sequence[Unit]) -> dict[str, Any]:
        """Return the settings that all units of a stage were made with.

        Raises:
            ConfigError: If a unit is not done, or units were made with different settings.
        """
        groups: dict[str, tuple[dict[str, Any], int]] = {}
        for unit in units:
            settings = self.entry(stage, unit.file).settings
            key = digest(settings)
            groups[key] = (settings, groups.get(key, (settings, 0))[1] + 1)
        (most, _), *others = sorted(groups.values(), key=lambda group: -group[1])
        if others:
            odd = sum(count for _, count in others)
            raise ConfigError(
                f"stage {stage}: {odd} of {len(units)} units were made with other settings than the rest "
                f"({changed_settings(most, others[0][0])}); run `--stage {stage}`, or `--stage all`, to give all the same"
            )
        return most

    def hash_of(self, stage: str, unit: str) -> str:
        """Return the hash of an earlier stage's output, for a later stage's fingerprint.

        Raises:
            ConfigError: If the unit is not done.
        """
        return self.entry(stage, unit).sha256

    def entry(self, stage: str, unit: str) -> LedgerEntry:
        """Return the entry of a unit that is done.

        Raises:
            ConfigError: If the unit is not done.
        """
        entry = self.ledger(stage).entry(unit)
        if entry is None:
            raise ConfigError(
                f"stage {stage} has not finished {unit} in {self.work}; run `--stage {stage}` first, or `--stage all`"
            )
        return entry


def make_plan(config: BuildConfig, images: str, lease: Lease | None = None) -> Plan:
    """List the images and return the plan.

    Raises:
        ConfigError: If there are no images, or fewer (with --limit) than an earlier run has worked on.
    """
    listing = list_images(images, split=config.split, unlabelled=config.unlabelled, limit=config.limit)
    plan = Plan(config, listing, _work(config), lease, is_listed=True)
    _refuse_trial(plan)
    write_listing(plan.work, listing)
    plan.push(_inputs(plan.work))
    return plan


def write_listing(work: Path, listing: Listing) -> None:
    """Write a listing into the folder of intermediate results."""
    facts = {"root": str(listing.root.resolve()), "left_out": json.dumps(listing.left_out)}
    facts["sha256"] = digest([facts["root"], facts["left_out"]])
    write_table(_inputs(work), listing.images.table.replace_schema_metadata(facts))


def read_plan(config: BuildConfig, lease: Lease | None = None) -> Plan:
    """Return the plan of an earlier run, from its listing.

    Raises:
        ConfigError: If there is no earlier run.
        StateError: If its listing is damaged.
    """
    work = _work(config)
    remote, inputs = remote_of(config), _inputs(work)
    if not (remote.pull(inputs) if remote else inputs.exists()):
        raise ConfigError(
            f"images: pass --images DIR or --demo; {config.out} holds no earlier run of split {config.split} to resume"
        )
    return Plan(config, _read_listing(inputs), work, lease)


def _work(config: BuildConfig) -> Path:
    return config.folder / ".build" / config.split


def _inputs(work: Path) -> Path:
    return work / "inputs.parquet"


def _refuse_trial(plan: Plan) -> None:
    """Refuse to replace a build by a trial run of fewer images.

    Raises:
        ConfigError: If --limit leaves fewer images than the finished units of an earlier run hold.
    """
    if not plan.config.limit:
        return
    done = sum(entry.rows for entry in plan.ledger("regions").entries().values())
    if done > len(plan.listing.images):
        raise ConfigError(
            f"limit: {plan.config.out} holds the regions of {done} images; a run with --limit {plan.config.limit} would "
            "replace that build. Choose another --out for a trial"
        )


def remote_of(config: BuildConfig) -> Remote | None:
    """Return the store of a remote output; None if the output is local."""
    return Remote(config.out, config.folder) if config.is_remote else None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically."""
    write_atomic(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", write_page_checksum=True))


def _read_listing(path: Path) -> Listing:
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        facts = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
        if digest([facts["root"], facts["left_out"]]) != facts["sha256"]:
            raise ValueError("the hash of its facts differs")
        left_out = Counter(json.loads(facts["left_out"]))
        listing = Listing(Path(facts["root"]), Images(table.select(SCHEMA.names).cast(SCHEMA)), left_out)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise StateError(f"{path}: damaged: {error}; run the build with --images again") from error
    if not len(listing.images):
        raise StateError(f"{path}: damaged: it lists no images; run the build with --images again")
    return listing


def inputs_digest(images: list[ImageInput]) -> str:
    """Return the hash of images' ids, names, classes and sizes, and of the structure of their tar or Parquet file."""
    return digest_of(images, times=False)
