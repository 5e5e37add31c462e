"""Measure each choice of the build and the loader against people's labels; `benchmarks.quality` is its command line."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.policies import measure_policies
from benchmarks.quality_tables import END, MARK, POLICY_MARK, between, policy_table, quality_tables
from benchmarks.trust import measure_trust
from benchmarks.variants import COCO, DEFAULT, IMAGENET, TABLES, Photographs, Variant, build, open_sets
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.evaluate.compare.bootstrap import Figure
from mlimagenet_data.evaluate.compare.report import compare
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.reading import file_hash

CROPS = 20  # per image
console = Console(soft_wrap=True, highlight=False)


def kept(file: Path, key: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result in a file if it has this key; otherwise make it and write it there."""
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["key"] == key:
            return dict(found["result"])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"key": key, "result": make()})
    return dict(json.loads(file.read_text(encoding="utf-8"))["result"])


def compared(photographs: Photographs, dataset: Path, default: Path | None, draws: int) -> dict[str, Any]:
    """Return a dataset's figures by "group.figure"; `other` is the default build."""
    store, other = AnnotationStore(dataset, "train"), AnnotationStore(default, "train") if default else None
    found = compare(photographs.truth, store, other, crops=CROPS, draws=draws).as_dict()
    return {
        f"{group}.{name}": figure
        for group, figures in found["groups"].items() for name, figure in figures.items() if name != "baseline"
    }  # fmt: skip


class Measurement:
    """A run of the benchmark.

    Attributes:
        sets: Both sets of photographs.
        results: What has been measured so far.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.work, self.docs, self.draws = args.work, args.docs, args.draws
        self.sets = open_sets(args.imagenet, args.coco, args.limit)
        self._datasets = {name: build(one, DEFAULT, self.work) for name, one in self.sets.items()}
        self._hashes = {name: _hash_of(folder) for name, folder in self._datasets.items()}
        sizes = {name: args.limit or len(one.truth) for name, one in self.sets.items()}
        self.results: dict[str, Any] = {
            "measured": f"Measured on {date.today()} on {sizes[IMAGENET]} ImageNet and {sizes[COCO]} COCO photographs, "
            f"with {self.draws} bootstrap draws and {CROPS} crops per image.",
            "variants": {},
        }

    def run(self) -> None:
        """Measure everything, the quick variants first."""
        self.results["defaults"] = {name: self._default(name) for name in self.sets}
        self.results["trust"] = self._kept("trust", list(self.sets), self._trust)
        self.results["policies"] = self._kept("policies", list(self.sets), self._policies)
        jobs = {f"{table.photographs}/{variant.name}": (table.photographs, variant)
                for table in TABLES for variant in table.variants}  # fmt: skip
        self.write()
        for number, (key, job) in enumerate(sorted(jobs.items(), key=lambda item: item[1][1].finds_regions)):
            console.print(f"[bold]{number + 1} of {len(jobs)}: {key}[/]")
            self.results["variants"][key] = self._variant(*job)
            self.write()

    def write(self) -> None:
        """Write the tables measured so far into the documents."""
        for name, start, end, tables in (
            ("quality.md", MARK, "", quality_tables(self.results)), ("labels.md", POLICY_MARK, END, policy_table(self.results)),
        ):  # fmt: skip
            file = self.docs / name
            text = between(file.read_text(encoding="utf-8"), start, end, tables)
            file.write_text(text.rstrip("\n") + "\n", encoding="utf-8")

    def _kept(self, name: str, sets: list[str], make: Callable[[], dict[str, Any]], **facts: Any) -> dict[str, Any]:
        key = {"draws": self.draws, "default": {one: self._hashes[one] for one in sets}, **facts}
        return kept(self.work / "results" / f"{name}.json", key, make)

    def _default(self, name: str) -> dict[str, Any]:
        return self._kept(
            f"{name}-default", [name], lambda: compared(self.sets[name], self._datasets[name], None, self.draws)
        )

    def _variant(self, name: str, variant: Variant) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            dataset = build(self.sets[name], variant, self.work)
            figures = compared(self.sets[name], dataset, self._datasets[name], self.draws)
            shutil.rmtree(dataset)
            return figures

        return self._kept(f"{name}-{variant.slug}", [name], make, variant=variant.name, options=variant.options)

    def _trust(self) -> dict[str, Any]:
        found = measure_trust(self._datasets[IMAGENET], self.sets[IMAGENET].truth, self.draws)
        return {
            name: {"error": way.error, "weight": way.weight, "figures": _plain(figures)}
            for name, (way, figures) in found.items()
        }

    def _policies(self) -> dict[str, Any]:
        found = measure_policies(self.sets, self._datasets, CROPS, self.draws)
        return {policy: {name: _plain(figures) for name, figures in sets.items()} for policy, sets in found.items()}


def _hash_of(dataset: Path) -> str:
    (file,) = sorted((dataset / "data").glob("*.parquet"))
    return file_hash(file)


def _plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        name: {"value": figure.value, "other_difference": figure.other_difference} for name, figure in figures.items()
    }
