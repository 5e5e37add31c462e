"""Stage 4, publish: the final Parquet shards, the dataset card and the build manifest.

Shards are written with the intermediate results, and appear in the dataset folder together, once all of them are done.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from build.config.options import digest
from build.images.listing import ImageInput
from build.images.reader import ImageReader, content_digest
from build.progress import console
from build.publishing.card import card_writer
from build.publishing.croissant import croissant_of
from build.records import LabelsRow, RegionsRow, read_rows
from build.stage import Stage
from build.state.ledger import UnitOutput
from build.state.manifest import updated_manifest
from build.state.output import claim, shared_files
from build.state.plan import Plan, Unit
from mlimagenet_data.annotations.card import companion_files
from mlimagenet_data.annotations.schema import (
    FILE_ROWS,
    GROUP_ROWS,
    arrow_schema,
    parquet_writer,
    shard_name,
)
from mlimagenet_data.annotations.statistics import collect, plot
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import ImageError, StateError
from mlimagenet_data.files.outputs import OutputFolder
from mlimagenet_data.files.reading import file_hash

__all__ = ["PublishStage"]

_FILE_BYTES = 400_000_000  # image bytes per file, with --embed-images; the Hub's own shards have up to 500 MB
_OF_IMAGE = ("image_id", "file_name", "label", "height", "width", "status")
_COLUMNS = (*_OF_IMAGE, "grid", "counts", "bbox", "area", "alignment", "content")  # without features, most of the bytes
_BESIDE = ("README.md", "croissant.json", "build_manifest.json")
_STATISTICS = ("statistics/{}.json", "statistics/{}.png")
_GROUP_ROWS_IMAGES = 500  # about 55 MB of ImageNet's files; the Hub's viewer wants row groups of at most 100 MB


class PublishStage(Stage):
    """Joins regions and labels into the published rows."""

    name = "publish"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._reader = ImageReader(plan.listing.root)

    def units(self) -> list[Unit]:
        """Return one unit per published file; the cuts depend only on the rows and the image files' sizes."""
        images = self.plan.listing.images
        sizes = images.table["bytes"].to_pylist() if self.plan.config.embed_images else [0] * len(images)
        starts, in_file = [0], 0
        for row, size in enumerate(sizes):
            if row - starts[-1] >= FILE_ROWS or (in_file and in_file + size > _FILE_BYTES):
                starts.append(row)
                in_file = 0
            in_file += max(size, 0)
        stops = [*starts[1:], len(sizes)]
        count = len(starts)
        return [Unit(shard_name(self.plan.config.split, i, count), starts[i], stops[i]) for i in range(count)]

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings and the regions and labels of the unit's rows."""
        shards = self._shards(unit)
        upstream = [[self.plan.hash_of(stage, shard.file) for shard in shards] for stage in ("regions", "labels")]
        return digest([settings, unit.file, unit.start, unit.stop, upstream])

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Prepare a file; its rows are made while it is written, with one row group in memory at a time."""
        facts: dict[str, Any] = {}

        def write(path: Path) -> None:
            start = time.perf_counter()
            facts.update(self._write(unit, path, advance), seconds={"publish": round(time.perf_counter() - start, 3)})

        return UnitOutput(unit.images, facts, write)

    def finish(self) -> None:
        """Put the files into the dataset folder, remove the split's earlier ones, and write card and manifest."""
        plan, ledger = self.plan, self.plan.ledger(self.name)
        files = [unit.file for unit in self.units()]
        sources = {f"data/{file}": ledger.read(file) for file in files}
        with shared_files(plan) as out:
            claim(plan, out, [*sources, *_BESIDE, *(name.format(plan.config.split) for name in _STATISTICS)])
            earlier = {name for name in out.names() if _is_shard(name, plan.config.split)} - {*sources}
            for name, source in sources.items():
                if not _is_same(source, out.path / name):
                    out.write(name, functools.partial(_link, source))
                    ledger.restamp(source.name)  # a link changes the file's change time
                plan.push(out.path / name)
            self._remove(out, earlier)
            manifest = updated_manifest(plan, files, out)
            _keep_edits(out, manifest)
            # the image column can be declared for a split without images, but not omitted for one with images
            embed_images = any(split["config"]["publish"]["embed_images"] for split in manifest["splits"].values())
            beside = [
                *self._write_statistics(out, [out.path / name for name in sources]),
                out.write("README.md", card_writer(manifest, imagenet_classes(), embed_images=embed_images)),
                out.write_json("croissant.json", croissant_of(manifest)),
            ]
            plan.push(*beside)
            names = [path.relative_to(out.path).as_posix() for path in beside]
            manifest["files"] = {**manifest.get("files", {}), **companion_files(out.path, names)}
            plan.push(out.write_json("build_manifest.json", manifest))
        for unit in {*ledger.entries()} - {*files}:
            ledger.remove(unit)

    def _remove(self, out: OutputFolder, names: set[str]) -> None:
        """Remove the split's earlier shards, which would break the set."""
        out.remove(names)
        for name in names if self.plan.remote else ():
            self.plan.remote.remove(out.path / name)  # type: ignore[union-attr]

    def _write_statistics(self, out: OutputFolder, files: list[Path]) -> list[Path]:
        found, (table, picture) = collect(files), (name.format(self.plan.config.split) for name in _STATISTICS)
        return [out.write_json(table, found.as_dict()), out.write(picture, lambda path: plot(found, path))]

    def _shards(self, unit: Unit) -> list[Unit]:
        return [shard for shard in self.plan.shards if shard.start < unit.stop and shard.stop > unit.start]

    def _write(self, unit: Unit, path: Path, advance: Callable[[int], None]) -> dict[str, Any]:
        embed = self.plan.config.embed_images
        schema = arrow_schema(embed_images=embed)
        group = _GROUP_ROWS_IMAGES if embed else GROUP_ROWS
        label_counts: Counter[str] = Counter()
        statuses: Counter[str] = Counter()
        with parquet_writer(path, schema) as writer:
            pending: list[dict[str, Any]] = []
            for row in self._rows(unit):
                label_counts[str(len(row["labels"]))] += 1
                statuses[row["status"]] += 1
                pending.append(row)
                if len(pending) == group:
                    writer.write_table(pa.Table.from_pylist(pending, schema=schema))
                    advance(len(pending))
                    pending = []
            if pending:
                writer.write_table(pa.Table.from_pylist(pending, schema=schema))
                advance(len(pending))
        assert label_counts.total() == unit.images
        by_number = dict(sorted(label_counts.items(), key=lambda item: int(item[0])))
        return {"label_counts": by_number, "statuses": dict(sorted(statuses.items()))}

    def _rows(self, unit: Unit) -> Iterator[dict[str, Any]]:
        for shard in self._shards(unit):
            regions = read_rows(self.plan.ledger("regions").read(shard.file), RegionsRow, *_COLUMNS)
            labels = read_rows(self.plan.ledger("labels").read(shard.file), LabelsRow)
            rows = zip(self.plan.images(shard), regions, labels, strict=True)
            for offset, (listed, seen, named) in enumerate(rows):
                assert listed.image_id == seen.image_id == named.image_id
                if unit.start <= shard.start + offset < unit.stop:
                    yield self._row(listed, seen, named)

    def _row(self, listed: ImageInput, seen: RegionsRow, named: LabelsRow) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(seen, name) for name in _OF_IMAGE}
        row["labels"], row["scores"] = named.labels, named.scores
        if row["status"] == "ok" and not named.kept:
            row["status"] = "no_regions"
        row["regions"] = [
            {
                "mask": {"size": seen.grid, "counts": seen.counts[k]},
                "bbox": seen.bbox[k],
                "area": seen.area[k],
                "label": named.topk_labels[k][0],
                "score": named.topk_scores[k][0],
                "topk_labels": named.topk_labels[k],
                "topk_scores": named.topk_scores[k],
                "alignment": seen.alignment[k],
            }
            for k in named.kept
        ]
        if self.plan.config.embed_images:
            content = self._content(listed, seen) if seen.height else None
            row["image"] = {"bytes": content, "path": seen.file_name} if content else None
        return row

    def _content(self, listed: ImageInput, seen: RegionsRow) -> bytes:
        """Return an image file's bytes.

        Raises:
            StateError: If they cannot be read, or are not those that the regions were found in.
        """
        try:
            content = self._reader.content(listed)
        except (ImageError, OSError) as error:
            raise StateError(
                f"{error}; its regions were found, but the file cannot be copied into the dataset"
            ) from error
        if content_digest(content) != seen.content:
            raise StateError(
                f"{listed.file_name}: the file has changed since its regions were found; run `--stage all` with --images"
            )
        return content


def _keep_edits(out: OutputFolder, manifest: dict[str, Any]) -> None:
    """Move a card aside that somebody has edited since it was written."""
    card, written = out.path / "README.md", manifest.get("files", {}).get("README.md", {})
    if card.is_file() and written and file_hash(card) != written.get("sha256"):
        number = next(k for k in itertools.count(1) if not os.path.lexists(out.path / f"README.edited-{k}.md"))
        os.rename(card, out.path / f"README.edited-{number}.md")
        console.print(f"{card} was edited; it is kept as README.edited-{number}.md")


def _is_shard(name: str, split: str) -> bool:
    return re.fullmatch(rf"data/{re.escape(split)}-\d+-of-\d+\.parquet", name) is not None


def _is_same(source: Path, target: Path) -> bool:
    return target.exists() and not target.is_symlink() and target.samefile(source)


def _link(source: Path, target: Path) -> None:
    """Make a file the same as a finished one: a hard link if the file system supports them, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
