"""Small annotated image folders for tests, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.annotations.schema import arrow_schema, shard_name
from mlimagenet_data.classes import imagenet_classes


def region(
    mask: np.ndarray, label: int, score: float = 0.9, others: Sequence[tuple[int, float]] = ()
) -> dict[str, Any]:
    """Return a region of the schema; `others` adds (class, score) pairs to its top-k."""
    ranking = [(label, score), *others]
    return {
        "mask": {"size": list(mask.shape), "counts": encode_mask(mask)},
        "bbox": [0.0, 0.0, 1.0, 1.0],
        "area": float(mask.mean()),
        "label": label,
        "score": score,
        "topk_labels": [index for index, _ in ranking],
        "topk_scores": [value for _, value in ranking],
        "alignment": 0.5,
    }


def row(
    name: str,
    size: tuple[int, int],
    regions: list[dict[str, Any]],
    *,
    label: int = 0,
    labels: Any = None,
    status: str = "ok",
) -> dict[str, Any]:
    """Return a row of the schema; `labels` are (class, score) pairs (default: the regions' best classes)."""
    wnid = imagenet_classes().wnids[label]
    pairs = labels if labels is not None else list({r["label"]: r["score"] for r in regions}.items())
    return {
        "image_id": f"{wnid}/{name}",
        "file_name": f"{wnid}/{name}.png",
        "label": label,
        "height": size[0],
        "width": size[1],
        "labels": [index for index, _ in pairs],
        "scores": [score for _, score in pairs],
        "regions": regions,
        "status": status,
    }


def write_rows(folder: Path, rows: list[dict[str, Any]], split: str = "train", shards: int = 1) -> Path:
    """Write a dataset folder."""
    schema = arrow_schema()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for k in range(shards):
        table = pa.Table.from_pylist(rows[k * len(rows) // shards : (k + 1) * len(rows) // shards], schema=schema)
        pq.write_table(table, folder / "data" / shard_name(split, k, shards), write_page_checksum=True)
    return folder


def write_images(root: Path, rows: list[dict[str, Any]], split: str = "train", seed: int = 0) -> Path:
    """Write a noise image for each row."""
    generator = np.random.default_rng(seed)
    for item in rows:
        path = root / split / item["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (item["height"], item["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def random_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows with up to four regions on several grid sizes, unlocated labels, and classes in several regions."""
    generator = np.random.default_rng(seed)
    rows = []
    for k in range(count):
        regions = []
        for _ in range(generator.integers(0, 5)):
            grid = (24, 24) if generator.random() < 0.7 else tuple(generator.integers(1, 40, 2))
            mask = np.zeros(grid, np.bool_)
            top, left = generator.integers(0, grid[0]), generator.integers(0, grid[1])
            mask[top : top + 1 + generator.integers(0, grid[0]), left : left + 1 + generator.integers(0, grid[1])] = (
                True
            )
            mask &= generator.random(grid) < 0.9
            classes = generator.permutation(6)[:3].tolist()
            scores = sorted(generator.uniform(0.01, 1.0, 3).tolist(), reverse=True)
            regions.append(region(mask, classes[0], scores[0], list(zip(classes[1:], scores[1:], strict=True))))
        labels = [
            (int(index), float(generator.uniform(0.05, 1.0)))
            for index in generator.permutation(7)[: generator.integers(0, 4)]
        ]
        size = (int(generator.integers(20, 60)), int(generator.integers(20, 60)))
        rows.append(row(f"image{k}", size, regions, label=int(generator.integers(0, 7)), labels=labels))
    return rows
