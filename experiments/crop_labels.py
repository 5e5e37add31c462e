"""Do labels that follow the crop help? Small networks, trained on composed scenes with known objects, by several methods.

    python -m experiments.crop_labels --images path/to/imagenet-sample

All methods get the same crops of the same scenes, the same network and the same number of steps; the learning rate of each is
chosen on scenes of its own. Every seed draws new scenes, crops and weights. Writes the tables of docs/experiments.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from build.run import main as build
from experiments.crops import CROP, Crops, as_tensor, draw_boxes, targets_of, views
from experiments.methods import METHODS, Method
from experiments.networks import Small, embedded_features, fit
from experiments.report import Setting, write_report
from experiments.scenes import SIZE, Material, compose, gather, write_scenes
from mlimagenet_data.evaluate.ranking import class_average_precision

TUNING = 10_000  # the seed of the scenes that learning rates are chosen on
RATES = {"scratch": (1e-3, 3e-3), "features": (3e-3, 3e-2)}  # learning rates tried for each kind of network
MEASURES = ("scenes", "crops", "top1")
console = Console(soft_wrap=True, highlight=False)


class Trial(NamedTuple):
    """What one seed gives all methods.

    Attributes:
        inputs: (N, 3, CROP, CROP) uint8 training crops, or (N, D) features of them.
        targets: By source and kind, (N, K) float32.
        scenes: Test scenes, whole, as inputs, and their known labels (M, K).
        test: Crops of them, and their known labels.
    """

    inputs: Tensor
    targets: dict[str, dict[str, Tensor]]
    scenes: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def make_trial(material: Material, seed: int, work: Path, args: argparse.Namespace, *, built: bool) -> Trial:
    """Draw scenes and crops, and label them: by what was composed, and by what the build finds in the scenes."""
    generator = torch.Generator().manual_seed(seed)
    halves = [dataclasses.replace(material, backgrounds=material.backgrounds[k::2]) for k in range(2)]
    sets = []
    for k, count in enumerate((args.scenes, args.test_scenes)):
        root = work / f"{seed}-{'train' if k == 0 else 'test'}"
        scenes = compose(halves[k], count, [seed, k])
        if not (root / "mlimagenet").exists():
            write_scenes(scenes, root)
        pixels = as_tensor(np.stack([scene.pixels for scene in scenes]))
        rows = torch.arange(count).repeat_interleave(args.crops)
        boxes, mirrored = draw_boxes(len(rows), SIZE, generator), torch.rand(len(rows), generator=generator) < 0.5
        sources = {"known": root / "mlimagenet"}
        if built and k == 0:
            sources["built"] = root / "built"
            _build(root, root / "built")
        found = {name: targets_of(root, path, material.classes, rows, boxes) for name, path in sources.items()}
        sets.append((pixels, Crops(views(pixels, rows, boxes, mirrored), found["known"]), found))
    (_, train, found), (pixels, test, _) = sets
    whole = nn.functional.interpolate(pixels.float(), size=(CROP, CROP), mode="bilinear", antialias=True)
    whole = whole.round().clamp(0, 255).to(torch.uint8)
    labels = test.targets["image"][:: args.crops]
    return Trial(train.pixels, found, (whole, labels), (test.pixels, test.targets["crop"]))


def _build(images: Path, out: Path) -> None:
    if build(["--images", str(images), "--out", str(out)]) != 0:
        raise RuntimeError(f"{images}: the build failed")


def measure(method: Method, network: nn.Module, trial: Trial) -> dict[str, float]:
    """Return mean average precision over classes on whole scenes and on crops, and how often the best class of a scene with one
    object is right."""
    out = {}
    with torch.inference_mode():
        for name, (inputs, labels) in (("scenes", trial.scenes), ("crops", trial.test)):
            scores = torch.cat([method.scores(network(part)) for part in inputs.split(256)]).numpy()
            known = labels.numpy() > 0
            out[name] = float(np.nanmean(class_average_precision(scores, known.astype(np.int8))))
            if name == "scenes":
                single = known.sum(axis=1) == 1
                best = scores[single].argmax(axis=1)
                out["top1"] = float(known[single][np.arange(single.sum()), best].mean())
    return out


def train(
    method: Method, kind: str, trial: Trial, rate: float, seed: int, args: argparse.Namespace
) -> dict[str, float]:
    """Train one network by one method, and measure it."""
    targets = trial.targets[method.source][method.target]
    torch.manual_seed(seed)
    classes = targets.shape[1]
    network: nn.Module = Small(classes) if kind == "scratch" else nn.Linear(trial.inputs.shape[1], classes)
    head = network.head if isinstance(network, Small) else network
    assert isinstance(head, nn.Linear)
    if method.sigmoid:  # starts from how often a class is there
        nn.init.constant_(head.bias, float(torch.logit((targets > 0).float().mean().clamp(1e-4, 0.5))))
    if kind == "scratch":
        network = network.to(memory_format=torch.channels_last)
    fit(network, trial.inputs, targets, method.loss, learning_rate=rate, batch=64, passes=args.passes, seed=seed)
    return measure(method, network, trial)


def featured(trial: Trial) -> Trial:
    """Return a trial with the embedded network's features in place of pixels."""
    inputs, scenes, test = (embedded_features(x) for x in (trial.inputs, trial.scenes[0], trial.test[0]))
    return Trial(inputs, trial.targets, (scenes, trial.scenes[1]), (test, trial.test[1]))


def run(args: argparse.Namespace) -> dict:
    """Run all trials; results are kept in the work folder, so that an interrupted run goes on."""
    work: Path = args.work
    objects = work / "objects"
    _build(args.images, objects)
    material = gather(objects, args.images / "train", args.classes)
    kinds = {kind: RATES[kind] for kind in args.kinds}
    methods = [m for m in METHODS if m.source == "known" or not args.no_built]
    seeds = [TUNING, *range(args.seeds)]
    with Progress(console=console) as progress:
        bar = progress.add_task("networks", total=(len(seeds) + 1) * len(kinds) * len(methods))
        for seed in seeds:
            trial: Trial | None = None
            for kind, rates in kinds.items():
                pending = [m for m in methods if not _path(work, seed, kind, m).exists()]
                if pending and trial is None:
                    trial = make_trial(material, seed, work, args, built=not args.no_built)
                seen = featured(trial) if trial is not None and pending and kind == "features" else trial
                for method in methods:
                    path = _path(work, seed, kind, method)
                    if not path.exists():
                        assert seen is not None
                        tried = rates if seed == TUNING else (_best_rate(work, kind, method),)
                        found = {str(rate): train(method, kind, seen, rate, seed, args) for rate in tried}
                        path.write_text(json.dumps(found), encoding="utf-8")
                    progress.advance(bar, 2 if seed == TUNING else 1)
    return {
        kind: {
            m.name: {
                "rate": _best_rate(work, kind, m),
                **{key: [_result(work, seed, kind, m)[key] for seed in range(args.seeds)] for key in MEASURES},
            }
            for m in methods
        }
        for kind in kinds
    }


def _path(work: Path, seed: int, kind: str, method: Method) -> Path:
    folder = work / "results" / kind / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{METHODS.index(method)}.json"


def _best_rate(work: Path, kind: str, method: Method) -> float:
    found = json.loads(_path(work, TUNING, kind, method).read_text(encoding="utf-8"))
    return float(max(found, key=lambda rate: found[rate]["scenes"]))


def _result(work: Path, seed: int, kind: str, method: Method) -> dict[str, float]:
    (found,) = json.loads(_path(work, seed, kind, method).read_text(encoding="utf-8")).values()
    return found


def main() -> None:
    """Run the comparison and write its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, required=True, help="Labelled photographs to cut objects from: class folders in train/."
    )
    parser.add_argument(
        "--work", type=Path, default=Path("reports/crop_labels"), help="Where scenes and results are kept."
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--classes", type=int, default=30)
    parser.add_argument("--scenes", type=int, default=400, help="Training scenes.")
    parser.add_argument("--test-scenes", type=int, default=300)
    parser.add_argument("--crops", type=int, default=16, help="Crops of each scene.")
    parser.add_argument("--passes", type=int, default=3, help="Passes over the crops.")
    parser.add_argument("--threads", type=int, default=1, help="Of PyTorch; results depend on it in their last digits.")
    parser.add_argument("--kinds", nargs="+", choices=list(RATES), default=list(RATES), help="What is trained.")
    parser.add_argument("--no-built", action="store_true", help="Leave out the build's own labels of the scenes.")
    parser.add_argument("--out", type=Path, default=Path("docs/experiments.md"), help="Where the tables are written.")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    results = run(args)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    options = {name: getattr(args, name) for name in ("seeds", "classes", "scenes", "test_scenes", "crops", "passes")}
    setting = Setting(date.today().isoformat(), machine, options, time.perf_counter() - start)
    write_report(args.out, results, METHODS, setting)
    console.print(f"tables: {args.out}")


if __name__ == "__main__":
    main()
