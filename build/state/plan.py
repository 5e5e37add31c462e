"""The plan of a build: its images, its units of work and the folder of its intermediate results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from build.config.options import BuildConfig, ConfigError
from build.images.listing import SCHEMA, ImageInput, Images, Listing, digest_of
from build.images.sources import list_images
from build.state.ledger import Ledger, LedgerEntry, write_atomic
from build.state.remote import Remote

__all__ = ["LABELER_FILE", "Plan", "Unit", "inputs_digest", "make_plan", "remote_of", "write_table"]

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
    """A build: its configuration, images and folder of intermediate results."""

    config: BuildConfig
    listing: Listing
    work: Path

    @property
    def shards(self) -> list[Unit]:
        """The images in fixed ranges, independent of the number of workers."""
        size, total = self.config.shard_size, len(self.listing.images)
        return [Unit(f"{i:05d}.parquet", i * size, min((i + 1) * size, total)) for i in range(-(-total // size))]

    def images(self, unit: Unit) -> list[ImageInput]:
        """Return the images of a unit."""
        return self.listing.images[unit.start : unit.stop]

    @cached_property
    def remote(self) -> Remote | None:
        """The store of a remote output; None if the output is local."""
        return remote_of(self.config)

    def ledger(self, stage: str) -> Ledger:
        """Return a stage's ledger."""
        return Ledger(self.work / stage, self.remote)

    def push(self, *paths: Path) -> None:
        """Copy files of a remote output's working copy to the store, in this order; do nothing for a local one."""
        if self.remote is not None:
            for path in paths:
                self.remote.push(path)

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


def make_plan(config: BuildConfig, images: str | None) -> Plan:
    """List the images, or read the listing of an earlier run if `images` is None, and return the plan.

    Raises:
        ConfigError: If there are neither images nor an earlier run.
    """
    work = config.folder / ".build" / config.split
    remote, inputs = remote_of(config), work / "inputs.parquet"
    if images is not None:
        listing = list_images(images, split=config.split, unlabelled=config.unlabelled, limit=config.limit)
        table = listing.images.table.replace_schema_metadata({"root": str(listing.root.resolve())})
        write_table(inputs, table)
        plan = Plan(config, listing, work)
        plan.push(inputs)
        return plan
    if not (remote.pull(inputs) if remote else inputs.exists()):
        raise ConfigError(
            f"images: pass --images DIR or --demo; {config.out} holds no earlier run of split {config.split} to resume"
        )
    return Plan(config, _read_listing(inputs), work)


def remote_of(config: BuildConfig) -> Remote | None:
    """Return the store of a remote output; None if the output is local."""
    return Remote(config.out, config.folder) if config.is_remote else None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically."""
    write_atomic(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def _read_listing(path: Path) -> Listing:
    table = pq.read_table(path)
    return Listing(Path(table.schema.metadata[b"root"].decode()), Images(table.cast(SCHEMA)), Counter())


def inputs_digest(images: list[ImageInput]) -> str:
    """Return the hash of images' ids, names, classes, sizes and modification times."""
    return digest_of(images, times=True)
