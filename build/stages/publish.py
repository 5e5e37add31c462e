"""Stage 4, publish: the final Parquet shards, the dataset card and the build manifest.

Shards are written with the intermediate results, and appear in the dataset folder together, once all of them are done.
"""

from __future__ import annotations

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
from build.images.reader import ImageReader
from build.publishing.card import write_card
from build.publishing.croissant import write_croissant
from build.records import LabelsRow, RegionsRow, read_rows
from build.stage import Stage
from build.state.ledger import UnitOutput, write_atomic, write_json
from build.state.manifest import write_manifest
from build.state.plan import Plan, Unit
from mlimagenet_data.annotations.schema import FILE_ROWS, GROUP_ROWS, arrow_schema, parquet_writer, shard_name
from mlimagenet_data.annotations.statistics import collect, plot
from mlimagenet_data.classes import imagenet_classes

__all__ = ["PublishStage"]

_FILE_BYTES = 400_000_000  # image bytes per file, with --embed-images; the Hub's own shards have up to 500 MB
_OF_IMAGE = ("image_id", "file_name", "label", "height", "width", "status")
_COLUMNS = (*_OF_IMAGE, "grid", "counts", "bbox", "area", "alignment")  # without features, most of the bytes
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
        out, ledger, remote = self.plan.config.folder, self.plan.ledger(self.name), self.plan.remote
        files = [unit.file for unit in self.units()]
        for file in files:
            _install(ledger.fetched(file), out / "data" / file)
            self.plan.push(out / "data" / file)
        for name in remote.names(out / "data") if remote else os.listdir(out / "data"):
            if re.fullmatch(rf"{self.plan.config.split}-\d+-of-\d+\.parquet", name) and name not in files:
                (out / "data" / name).unlink(missing_ok=True)
                if remote:
                    remote.remove(out / "data" / name)
        self._write_statistics([out / "data" / file for file in files])
        manifest = write_manifest(self.plan, files)
        # the image column can be declared for a split without images, but not omitted for one with images
        embed_images = any(split["config"]["publish"]["embed_images"] for split in manifest["splits"].values())
        write_card(out, manifest, imagenet_classes(), embed_images=embed_images)
        write_croissant(out, manifest)
        self.plan.push(out / "croissant.json", out / "README.md", out / "build_manifest.json")

    def _write_statistics(self, files: list[Path]) -> None:
        folder, split = self.plan.config.folder / "statistics", self.plan.config.split
        found = collect(files)
        write_json(folder / f"{split}.json", found.as_dict())
        write_atomic(folder / f"{split}.png", lambda path: plot(found, path))
        self.plan.push(folder / f"{split}.json", folder / f"{split}.png")

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
            regions = read_rows(self.plan.ledger("regions").fetched(shard.file), RegionsRow, *_COLUMNS)
            labels = read_rows(self.plan.ledger("labels").fetched(shard.file), LabelsRow)
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
            content = self._reader.content(listed) if seen.height else None
            row["image"] = {"bytes": content, "path": seen.file_name} if content else None
        return row


def _install(source: Path, target: Path) -> None:
    """Put a finished file into the dataset: as a hard link if the file system supports them, else as a copy."""

    def put(temporary: Path) -> None:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

    write_atomic(target, put)
