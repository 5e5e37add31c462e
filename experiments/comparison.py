"""Run the comparison of `experiments.crop_labels`: every method, kind of network and seed, and write its report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from build import BuildConfig, relabel
from build.progress import console, meter
from experiments.methods import METHODS, Method
from experiments.report import Setting, plot, write_report
from experiments.scenes import gather
from experiments.training import MEASURES, train
from experiments.trials import Options, Trial
from mlimagenet_data.files.atomic import write_json

__all__ = ["compare"]

TUNING = 10_000  # seed of the scenes for choosing learning rates
RATES = {"scratch": (1e-3, 3e-3), "features": (3e-4, 1e-3, 3e-3)}  # learning rates to try per kind of network
SIZES = ("classes", "scenes", "test_scenes", "crops", "passes")


def compare(args: argparse.Namespace) -> None:
    """Run the comparison with the options of `experiments.crop_labels`, and write its report."""
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    results = _run(args)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    options = {name: getattr(args, name) for name in ("seeds", *SIZES)}
    setting = Setting(date.today().isoformat(), machine, options)
    write_report(args.out, results, METHODS, setting)
    plot(args.out.with_suffix(".png"), results, METHODS)
    console.print(f"tables: {args.out}, picture: {args.out.with_suffix('.png')}")


def _run(args: argparse.Namespace) -> dict:
    """Run all trials; the work folder keeps their results, so an interrupted run resumes."""
    objects = args.work / "objects"
    relabel(BuildConfig(images=str(args.images), out=str(objects)))
    material = gather(objects, args.images / "train", args.classes)
    work = args.work / "-".join(str(getattr(args, name)) for name in SIZES)  # scenes depend on these sizes
    kinds = {kind: RATES[kind] for kind in args.kinds}
    methods = [m for m in METHODS if m.source != "built" or not args.no_built]
    options = Options(args.scenes, args.test_scenes, args.crops)
    seeds = [TUNING, *range(args.seeds)]
    networks = len(methods) * sum(len(rates) + args.seeds for rates in kinds.values())
    with meter("networks", networks) as progress:
        for seed in seeds:
            trial: Trial | None = None
            for kind, rates in kinds.items():
                pending = [m for m in methods if not _path(work, seed, kind, m).exists()]
                if pending and trial is None:
                    trial = Trial(material, seed, work, options)
                for method in methods:
                    path = _path(work, seed, kind, method)
                    if not path.exists():
                        assert trial is not None
                        tried = rates if seed == TUNING else (_best_rate(work, kind, method),)
                        found = {str(rate): _timed(method, kind, trial, rate, seed, args.passes) for rate in tried}
                        write_json(path, found)
                    progress.advance(len(rates) if seed == TUNING else 1)
    return {kind: {m.name: _summary(work, kind, m, args.seeds) for m in methods} for kind in kinds}


def _summary(work: Path, kind: str, method: Method, seeds: int) -> dict[str, Any]:
    found = [_result(work, seed, kind, method) for seed in range(seeds)]
    values = {key: [result[key] for result in found] for key in (*MEASURES, "seconds")}
    return {"rate": _best_rate(work, kind, method), **values}


def _timed(*what: Any) -> dict[str, float]:
    start = time.perf_counter()
    found = train(*what)
    return {**found, "seconds": time.perf_counter() - start}


def _path(work: Path, seed: int, kind: str, method: Method) -> Path:
    return work / "results" / kind / str(seed) / f"{'-'.join(re.findall('[a-z]+', method.name))}.json"


def _best_rate(work: Path, kind: str, method: Method) -> float:
    found = json.loads(_path(work, TUNING, kind, method).read_text(encoding="utf-8"))
    return float(max(found, key=lambda rate: found[rate]["scenes"]))


def _result(work: Path, seed: int, kind: str, method: Method) -> dict[str, float]:
    (found,) = json.loads(_path(work, seed, kind, method).read_text(encoding="utf-8")).values()
    return found
