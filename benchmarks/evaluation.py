"""Measure labels and regions against human annotation of multi-object photographs, with paired bootstrap intervals.

    python -m benchmarks.evaluation path/to/coco mlimagenet [--against other]

The first folder holds `ground_truth.json`, {"images": [{image_id, height, width, regions: [{coco_class, area, mask,
iscrowd}]}]} with masks as COCO RLE, and `coco_to_imagenet.json`, {"classes": {name: [ImageNet classes]}}. The other
folders are datasets written by the build.

Each image counts its 10 best-scored regions and its 12 best labels that score at least 0.02. Figures that use class
names ignore ImageNet classes that match no annotated kind of object, and objects that match no ImageNet class.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pycocotools.mask as mask_utils

from mlimagenet_data.annotations.masks import stretch_mask

THRESHOLDS = (0.1, 0.25, 0.5, 0.75)
MOST_LABELS, LEAST_SCORE, MOST_REGIONS = 12, 0.02, 10
LEAST_POSITIVES = 3  # a kind of object has an average precision if at least this many images show it
NAMES = {
    "iou5": "mean best IoU of objects >= 5% of the image",
    "recall": "recall at IoU 0.5 of objects >= 1%",
    "grounded": "correctly named regions on such an object",
    "map": "mAP",
    "best_f1": "best F1",
    "two@0.1": "two or more objects found @0.1",
    "precision@0.5": "precision@0.5",
    "labels": "labels per image",
    "regions": "regions per image",
}


@dataclass(frozen=True)
class Truth:
    """Human annotation: images by id, the kinds of objects, and the kinds that each ImageNet class matches."""

    images: dict[str, dict[str, Any]]
    kinds: list[str]
    of_class: dict[int, set[str]]

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Read the annotation in a folder."""
        images = json.loads((folder / "ground_truth.json").read_text())["images"]
        classes = json.loads((folder / "coco_to_imagenet.json").read_text())["classes"]
        of_class: dict[int, set[str]] = {}
        for kind, indices in classes.items():
            for index in indices:
                of_class.setdefault(index, set()).add(kind)
        return cls({image["image_id"]: image for image in images}, sorted(classes), of_class)


@dataclass(frozen=True)
class Scores:
    """Scores of N images, kept per image so that the bootstrap can resample images.

    Attributes:
        best: Per image, (n, 2): the best IoU and the area of each object.
        grounded: Per image, whether each correctly named region is on an object of that kind.
        pairs: (N, T, 3) numbers of annotated, predicted and correct kinds at each threshold.
        two: (N, T) whether at least two kinds were found; NaN if fewer than two are annotated.
        scores: (N, K) score of each kind.
        truth: (N, K) bool, whether each kind is annotated.
        labels: (N,) number of labels.
        regions: (N,) number of regions.
    """

    best: list[np.ndarray]
    grounded: list[np.ndarray]
    pairs: np.ndarray
    two: np.ndarray
    scores: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    regions: np.ndarray


def load_rows(dataset: Path) -> dict[str, dict[str, Any]]:
    """Return a dataset's rows, keyed by the last part of their image_id."""
    files = sorted((dataset / "data").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return {row["image_id"].rsplit("/", 1)[-1]: row for row in rows}


def score(truth: Truth, rows: dict[str, dict[str, Any]]) -> Scores:
    """Return the scores of a dataset's rows; an image without a row counts as one without labels or regions."""
    nothing: dict[str, Any] = {"labels": [], "scores": [], "regions": []}
    images = [truth.images[key] for key in sorted(truth.images)]
    found = [rows.get(image["image_id"], nothing) for image in images]
    parts = [_regions(truth, image, row) for image, row in zip(images, found, strict=True)]
    named = [_labels(truth, image, row) for image, row in zip(images, found, strict=True)]
    return Scores(
        [best for best, _ in parts], [grounded for _, grounded in parts],
        *(np.array(values) for values in zip(*named, strict=True)),
        np.array([len(row["labels"]) for row in found]), np.array([len(row["regions"]) for row in found]),
    )  # fmt: skip


def _here(truth: Truth, image: dict[str, Any]) -> set[str]:
    return {region["coco_class"] for region in image["regions"]} & set(truth.kinds)


def _labels(truth: Truth, image: dict[str, Any], row: dict[str, Any]) -> tuple[Any, ...]:
    here = _here(truth, image)
    ranked = sorted(zip(row["labels"], row["scores"], strict=True), key=lambda pair: -pair[1])[:MOST_LABELS]
    labels = [(index, value) for index, value in ranked if value >= LEAST_SCORE and index in truth.of_class]
    scores = {kind: 0.0 for kind in truth.kinds}
    for index, value in labels:
        for kind in truth.of_class[index]:
            scores[kind] = max(scores[kind], value)
    pairs, two = [], []
    for threshold in THRESHOLDS:
        hits = [truth.of_class[index] & here for index, value in labels if value >= threshold]
        right: set[str] = set().union(*hits)
        pairs.append((len(here), len(right) + sum(not hit for hit in hits), len(right)))
        two.append(float(len(right) >= 2) if len(here) >= 2 else np.nan)
    return pairs, two, [scores[kind] for kind in truth.kinds], [kind in here for kind in truth.kinds]


def _regions(truth: Truth, image: dict[str, Any], row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    size = image["height"], image["width"]
    here = _here(truth, image)
    objects = [region for region in image["regions"] if not region.get("iscrowd")]
    regions = sorted(row["regions"], key=lambda region: -region["score"])[:MOST_REGIONS]
    masks = [stretch_mask(_decode(region["mask"]), *size) for region in regions]
    of_objects = [stretch_mask(_decode(region["mask"]), *size) for region in objects]
    iou = np.array([_iou(a, b) for a in of_objects for b in masks]).reshape(len(objects), len(masks))
    best = np.array([(iou[k].max(initial=0), region["area"]) for k, region in enumerate(objects)]).reshape(-1, 2)
    grounded = []
    for number, (region, mask) in enumerate(zip(regions, masks, strict=True)):
        kinds = truth.of_class.get(region["label"], set()) & here
        if kinds and mask.any():
            middle = tuple(int(places.mean()) for places in np.nonzero(mask))
            candidates = [k for k, other in enumerate(objects) if other["coco_class"] in kinds]
            grounded.append(any(iou[k, number] >= 0.5 or of_objects[k][middle] for k in candidates))
    return best, np.array(grounded, bool)


def _decode(mask: dict[str, Any]) -> np.ndarray:
    return np.asarray(mask_utils.decode({"size": mask["size"], "counts": mask["counts"].encode()}), bool)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def figures(scores: Scores, picks: np.ndarray | None = None) -> dict[str, float]:
    """Return the figures over all images, or over the images in `picks`."""
    picks = np.arange(len(scores.pairs)) if picks is None else picks
    best = np.concatenate([scores.best[k] for k in picks])
    grounded = np.concatenate([scores.grounded[k] for k in picks])
    annotated, predicted, right = scores.pairs[picks].sum(axis=0).T
    f1 = 2 * right / np.maximum(annotated + predicted, 1)
    precision = right / np.maximum(predicted, 1)
    truth = scores.truth[picks]
    kinds = np.flatnonzero(truth.sum(axis=0) >= LEAST_POSITIVES)
    return {
        "iou5": _mean(best[best[:, 1] >= 0.05, 0]),
        "recall": _mean(best[best[:, 1] >= 0.01, 0] >= 0.5),
        "grounded": _mean(grounded),
        "map": _mean(np.array([_average_precision(scores.scores[picks, k], truth[:, k]) for k in kinds])),
        "best_f1": float(f1.max()),
        **{f"f1@{t}": float(value) for t, value in zip(THRESHOLDS, f1, strict=True)},
        **{f"precision@{t}": float(value) for t, value in zip(THRESHOLDS, precision, strict=True)},
        **{f"two@{t}": _mean(values) for t, values in zip(THRESHOLDS, scores.two[picks].T, strict=True)},
        "labels": float(scores.labels[picks].mean()),
        "regions": float(scores.regions[picks].mean()),
    }


def _mean(values: np.ndarray) -> float:
    """Return the mean without NaN, or 0 if nothing remains."""
    values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(values.mean()) if len(values) else 0.0


def _average_precision(scores: np.ndarray, positives: np.ndarray) -> float:
    """Return the mean precision at the positives; equal scores keep the order of the images."""
    hits = positives[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def differences(one: Scores, other: Scores, draws: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return 95% intervals of `one`'s figures minus `other`'s; both use the same resampled images."""
    generator = np.random.default_rng(seed)
    count = len(one.pairs)
    found = []
    for _ in range(draws):
        picks = generator.integers(0, count, count)
        a, b = figures(one, picks), figures(other, picks)
        found.append([a[name] - b[name] for name in a])
    low, high = np.quantile(found, (0.025, 0.975), axis=0)
    return {name: (float(x), float(y)) for name, x, y in zip(figures(one), low, high, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, help="Folder of human annotations.")
    parser.add_argument("dataset", type=Path, help="Dataset to measure.")
    parser.add_argument("--against", type=Path, help="Also print the differences to this dataset.")
    args = parser.parse_args()
    truth = Truth.load(args.truth)
    one = score(truth, load_rows(args.dataset))
    other = score(truth, load_rows(args.against)) if args.against else None
    interval = differences(one, other) if other is not None else {}
    for name, value in figures(one).items():
        line = f"{NAMES.get(name, name):<50} {value:.3f}"
        if other is not None:
            low, high = interval[name]
            line += f"  {value - figures(other)[name]:+.3f} [{low:+.3f}, {high:+.3f}]"
        print(line)


if __name__ == "__main__":
    main()
