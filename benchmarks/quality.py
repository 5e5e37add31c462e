"""Measure the effect of each choice in the build, and write the tables of docs/quality.md.

    python -m benchmarks.quality --coco path/to/coco --imagenet path/to/imagenet-sample

Builds annotated photographs (without original labels) and ImageNet images together, once per variant.
`benchmarks.evaluation` describes the format of the annotations. Takes about 20 minutes on two cores. Pictures of good
and bad cases show the photographs, so they go to the work folder (reports/, which git ignores).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.evaluation import NAMES, Scores, Truth, _decode, differences, figures, load_rows, score
from build.api import relabel
from build.config.options import BuildConfig
from build.images.reader import ImageReader
from build.images.sources import list_images
from build.networks.forward import Clock, Forward
from build.ops.peaks import evidence, find_peaks
from build.ops.pooling import pool, region_weights
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.images import load_image
from mlimagenet_data.viewer.sheet import stretch_mask, write_sheet

SHOWN = ("iou5", "recall", "grounded", "map", "best_f1", "two@0.1", "precision@0.5", "labels", "regions")
MARK = "<!-- tables: written by `python -m benchmarks.quality` -->\n"
CASES = 20  # per picture sheet
console = Console(soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Variant:
    """Build options that differ from the defaults, with their name in the tables."""

    table: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)


REGIONS, LABELS, LABELER = "Regions", "Naming and collecting", "Labeler"
TRAINED = {"labeler_min_regions": 1, "labeler_min_classes": 0.0, "held_out": 0.0}
VARIANTS = (
    Variant(REGIONS, "MaskCut alone", {"peaks": 0}),
    Variant(REGIONS, "MaskCut alone, 6 rounds", {"peaks": 0, "num_regions": 6}),
    Variant(REGIONS, "6 rounds", {"num_regions": 6}),
    Variant(REGIONS, "half as many grown regions", {"peaks": 4}),
    Variant(REGIONS, "twice as many grown regions", {"peaks": 16}),
    Variant(REGIONS, "one image size (no scan at 640)", {"scan_size": 0}),
    Variant(REGIONS, "duplicates published", {"merge_iou": 2.0}),
    Variant(REGIONS, "duplicates merged at IoU 0.5 and above", {"merge_iou": 0.5}),
    Variant(REGIONS, "regions without a name published", {"reject": 0.0}),
    Variant(REGIONS, "regions under 0.05 rejected", {"reject": 0.05}),
    Variant(LABELS, "classes seen elsewhere also name regions", {"located": 0.0}),
    Variant(LABELS, "confusable classes all named", {"confusion": 1.0}),
    Variant(LABELS, "labels of at least 0.02", {"label_threshold": 0.02}),
    Variant(LABELS, "labels of at least 0.25", {"label_threshold": 0.25}),
    Variant(LABELS, "one threshold for all labels", {"added_threshold": 0.0}),
    Variant(LABELER, "classifier's head trained further, seed 0", TRAINED),
    Variant(LABELER, "seed 1", {**TRAINED, "seed": 1}),
    Variant(LABELER, "seed 2", {**TRAINED, "seed": 2}),
    Variant(LABELER, "MLP added to the head, seed 0", {**TRAINED, "head": "mlp"}),
    Variant(LABELER, "MLP, seed 1", {**TRAINED, "head": "mlp", "seed": 1}),
    Variant(LABELER, "MLP, seed 2", {**TRAINED, "head": "mlp", "seed": 2}),
    Variant(LABELER, "MLP, 4 versions with patches dropped", {**TRAINED, "head": "mlp", "feature_variants": 4}),
)


def gather(coco: Path, imagenet: Path, folder: Path) -> Path:
    """Link annotated photographs and ImageNet's class folders into one image folder."""
    folder.mkdir(parents=True, exist_ok=True)
    photographs = [path for path in sorted((coco / "images").rglob("*")) if path.is_file()]
    classes = [path for path in sorted((imagenet / "train").iterdir()) if path.is_dir()]
    for path in [*photographs, *classes]:
        link = folder / path.name
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    return folder


def run(images: Path, work: Path, variant: Variant) -> tuple[Path, dict[str, Any], float]:
    """Build a variant; return the dataset, its split's manifest, and seconds. Variants with equal regions share them."""
    changed = {o.name for o in fields(BuildConfig) if o.metadata["stage"] == "regions"} & set(variant.options)
    out = work / ("-".join(f"{variant.options[name]}-{name}" for name in sorted(changed)) or "default")
    report = relabel(BuildConfig(images=str(images), out=str(out), **variant.options))
    return out, report.split, report.seconds


def bounds(truth: Truth, images: Path) -> dict[str, Scores]:
    """Return the scores of human masks, and of a scan without masks, with the default networks and 12 labels each."""
    config = BuildConfig()
    listing, forward = list_images(str(images), split="train"), Forward(config)
    rows: dict[str, dict[str, Any]] = {"human": {}, "scan": {}}
    photographs = [image for image in listing.images if image.image_id in truth.images]
    for seen in forward.batches(photographs, ImageReader(listing.root), Clock()):
        assert seen.maps is not None
        evident = evidence(seen.maps.label_maps, config.temperature)
        peaks = find_peaks(seen.maps.label_maps, evident, 12, 0.0, config.temperature)
        for k, image in enumerate(seen.readable):
            rows["scan"][image.image_id] = _row(peaks.classes[k].tolist(), peaks.scores[k].tolist())
            annotated = truth.images[image.image_id]
            masks = [stretch_mask(_decode(r["mask"]), 256, 256) for r in annotated["regions"]]
            stack = torch.from_numpy(np.array(masks, bool).reshape(1, -1, 256, 256))
            maps = [m[k : k + 1] for m in seen.maps.label_maps]
            pooled = torch.stack([pool(m, region_weights(stack, (m.shape[2], m.shape[3]))) for m in maps]).mean(dim=0)
            best = (pooled / config.temperature).softmax(dim=2)[0].amax(dim=0).topk(12)
            rows["human"][image.image_id] = _row(best.indices.tolist(), best.values.tolist())
    forward.close()
    return {name: score(truth, found) for name, found in rows.items()}


def _row(labels: list[int], scores: list[float]) -> dict[str, Any]:
    return {"labels": labels, "scores": scores, "regions": []}


def background(truth: Truth, rows: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Return the scores of regions on an object with an ImageNet class, on another object, and on no object."""
    out: dict[str, list[float]] = {"a named kind of object": [], "another object": [], "no annotated object": []}
    for key, image in truth.images.items():
        size = (image["height"], image["width"])
        masks = {True: np.zeros(size, bool), False: np.zeros(size, bool)}
        for region in image["regions"]:
            masks[region["coco_class"] in truth.kinds] |= stretch_mask(_decode(region["mask"]), *size)
        for region in rows[key]["regions"]:
            mask = stretch_mask(_decode(region["mask"]), *size)
            named, other = (float(mask[masks[which]].sum() / mask.sum()) for which in (True, False))
            if named > 0.5:
                out["a named kind of object"].append(region["score"])
            elif named < 0.1 and other >= 0.1:
                out["another object"].append(region["score"])
            elif named + other < 0.1:
                out["no annotated object"].append(region["score"])
    return out


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)])


def with_difference(value: float, other: float, interval: tuple[float, float], digits: int) -> str:
    """Return a figure with its difference, in bold if the interval excludes 0."""
    text = f"{value:.{digits}f} ({value - other:+.{digits}f})"
    return f"**{text}**" if interval[0] > 0 or interval[1] < 0 else text


def render(results: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    parts = [f"Measured on {results['date']} with {results['machine']}; {results['seconds_an_image']:.2f} s per image."]
    default = results["default"]
    rows = [
        [NAMES[n], f"{default['figures'][n]:.3f}", "[{:.3f}, {:.3f}]".format(*default["intervals"][n])] for n in SHOWN
    ]
    parts += ["### The default build, annotated photographs", table(["figure", "value", "95% interval"], rows)]
    for title in dict.fromkeys(v["table"] for v in results["variants"]):
        head = ["variant", *(NAMES[n] for n in SHOWN), "originals found", "labels per ImageNet image", "seconds"]
        rows = [
            [
                "default",
                *(f"{default['figures'][n]:.{_digits(n)}f}" for n in SHOWN),
                default["found"],
                default["on_imagenet"],
                default["seconds"],
            ]
        ]
        for v in results["variants"]:
            if v["table"] == title:
                cells = [
                    with_difference(v["figures"][n], default["figures"][n], v["intervals"][n], _digits(n))
                    for n in SHOWN
                ]
                rows.append([_named(v), *cells, v["found"], v["on_imagenet"], v["seconds"]])
        parts += [f"### {title}", table(head, rows)]
    names = ("map", "best_f1", "two@0.1", "precision@0.5")
    rows = [[name, *(f"{values[n]:.3f}" for n in names)] for name, values in results["bounds"].items()]
    parts += ["### Bounds, with 12 labels per image", table(["", *(NAMES[n] for n in names)], rows)]
    head = ["regions on", "number", "median score", *(f"share under {t}" for t in results["reject"])]
    parts += ["### Scores of regions on and off objects", table(head, results["background"])]
    return "\n\n".join(parts) + "\n"


def _digits(name: str) -> int:
    return 2 if name in ("labels", "regions") else 3


def _named(variant: dict[str, Any]) -> str:
    return f"{variant['name']} (`{_flags(variant['options'])}`)"


def _flags(options: dict[str, Any]) -> str:
    shown = {name: value if isinstance(value, str) else f"{value:g}" for name, value in options.items()}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in shown.items())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    truth = Truth.load(args.coco)
    images = gather(args.coco, args.imagenet, args.work / "images")
    out, manifest, seconds = run(images, args.work, Variant("", "default"))
    default, rows = score(truth, load_rows(out)), load_rows(out)
    draw(out, images, args.work, default, sorted(truth.images))
    variants = []
    for variant in VARIANTS:
        folder, found, spent = run(images, args.work, variant)
        scores = score(truth, load_rows(folder))
        interval = differences(scores, default, args.draws)
        console.print(f"[bold]{variant.name}[/]: {figures(scores)}")
        variants.append({
            **vars(variant), "figures": figures(scores), "intervals": interval, "found": _found(found),
            "on_imagenet": on_imagenet(folder), "seconds": f"{spent:.0f}",
        })  # fmt: skip
    run(images, args.work, Variant("", "default"))  # end with the default's dataset in place
    generator = np.random.default_rng(0)
    count = len(default.pairs)
    draws = [figures(default, generator.integers(0, count, count)) for _ in range(args.draws)]
    intervals = {n: tuple(np.quantile([draw[n] for draw in draws], (0.025, 0.975))) for n in SHOWN}
    long_list = next(v for v in variants if v["name"] == "labels of at least 0.02")
    reject = (0.02, 0.05, 0.1, 0.25)
    return {
        "date": str(date.today()),
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}",
        "seconds_an_image": seconds / manifest["rows"],
        "default": {
            "figures": figures(default), "intervals": intervals, "found": _found(manifest),
            "on_imagenet": on_imagenet(out), "seconds": f"{seconds:.0f}",
        },
        "variants": variants,
        "bounds": {
            "the pipeline, labels of at least 0.02": long_list["figures"],
            **{_BOUNDS[name]: figures_of_labels(scores) for name, scores in bounds(truth, images).items()},
        },
        "reject": reject,
        "background": [
            [name, str(len(values)), f"{np.median(values):.3f}", *(f"{np.mean(np.array(values) < t):.0%}" for t in reject)]
            for name, values in background(truth, rows).items()
        ],
    }  # fmt: skip


_BOUNDS = {"human": "human masks, same networks and pooling", "scan": "scan without masks (best place of each class)"}


def figures_of_labels(scores: Scores) -> dict[str, float]:
    """Return the figures that need no regions."""
    return {name: value for name, value in figures(scores).items() if name not in ("iou5", "recall", "grounded")}


def _found(manifest: dict[str, Any]) -> str:
    return f"{manifest['original_label_found']} of {manifest['with_original_label']}"


def on_imagenet(out: Path) -> str:
    """Return the mean number of labels of images with an original label."""
    return f"{np.mean([len(row['labels']) for row in load_rows(out).values() if row['label'] is not None]):.2f}"


def draw(out: Path, images: Path, work: Path, scores: Scores, keys: list[str]) -> None:
    """Draw the photographs with the best and worst labels at 0.1, and with the best and worst regions."""
    store = AnnotationStore(out, "train")
    annotated, predicted, right = scores.pairs[:, 0].T
    f1 = np.where(annotated > 0, 2 * right / np.maximum(annotated + predicted, 1), np.nan)
    iou = np.array(
        [best[best[:, 1] >= 0.01, 0].mean() if (best[:, 1] >= 0.01).any() else np.nan for best in scores.best]
    )
    for name, order in (("labels-good", -f1), ("labels-bad", f1), ("regions-bad", iou), ("regions-good", -iou)):
        picks = [int(k) for k in np.argsort(order) if not np.isnan(order[k])][:CASES]
        records = [store.record(store.find(keys[k])) for k in picks]
        write_sheet(work / f"{name}.png", [(load_image(images / r.file_name), r) for r in records])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True, help="Annotated photographs.")
    parser.add_argument("--imagenet", type=Path, required=True, help="ImageNet images in class folders below train/.")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("reports/quality"),
        help="Folder for builds, results and pictures (default: reports/quality).",
    )
    parser.add_argument("--draws", type=int, default=1000, help="Bootstrap draws (default: 1000).")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("docs/quality.md"),
        help="Report whose tables are replaced (default: docs/quality.md).",
    )
    args = parser.parse_args()
    results = measure(args)
    (args.work / "results.json").write_text(json.dumps(results, indent=1))
    tables = render(results)
    print(tables)
    text = args.report.read_text(encoding="utf-8") if args.report.exists() else MARK
    args.report.write_text(text.partition(MARK)[0] + MARK + "\n" + tables, encoding="utf-8")


if __name__ == "__main__":
    main()
