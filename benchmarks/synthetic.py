"""LoaderInputs generated from a seed: textured photographs, annotation rows, ReLabel label maps, a table of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.annotations.schema import arrow_schema, shard_name
from mlimagenet_data.classes import NUM_CLASSES, imagenet_classes

__all__ = ["HEIGHT", "WIDTH", "image_ids", "write_annotations", "write_label_maps", "write_photographs", "write_table"]

HEIGHT, WIDTH = 375, 500
DISTINCT = 1000  # rows with their own masks; further rows repeat them under other names
_SHARD_ROWS = 200_000
_OCTAVES = (4, 8, 16, 32, 64, 128, 256, 500)


def image_ids(count: int, classes: int = NUM_CLASSES) -> tuple[list[str], list[int]]:
    """Return `count` sorted image_ids spread evenly over classes, and the class of each."""
    wnids = imagenet_classes().wnids
    labels = [k * classes // count for k in range(count)]
    return [f"{wnids[label]}/{wnids[label]}_{k:07d}" for k, label in enumerate(labels)], labels


def write_photographs(split_folder: Path, ids: Sequence[str], seed: int) -> None:
    """Write a JPEG file per image_id, about 110 kB: noise at all scales with the falling spectrum of a photograph."""
    generator = np.random.default_rng(seed)
    for image_id in ids:
        path = split_folder / f"{image_id}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = _texture(generator)[..., None]
        colour = np.stack([_texture(generator, _OCTAVES[:4]) for _ in range(3)], axis=-1)
        pixels = 120 + 50 * grey + 20 * colour
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95)


def _texture(generator: np.random.Generator, octaves: Sequence[int] = _OCTAVES) -> np.ndarray:
    """Return (HEIGHT, WIDTH) of mean 0 and deviation 1: octaves of noise, weaker the finer they are."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for octave in octaves:
        noise = generator.standard_normal((octave * 3 // 4, octave), dtype=np.float32)
        layer = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        total += np.asarray(layer) / np.float32(octave**0.45)
    return (total - total.mean()) / total.std()


def write_annotations(
    folder: Path, rows: int, regions: int, seed: int, *, classes: int = NUM_CLASSES, ragged: float = 1.0
) -> Path:
    """Write a dataset folder of `rows` rows in Parquet shards; return the folder.

    Args:
        folder: Output folder.
        rows: Number of rows; at most DISTINCT have their own masks.
        regions: Regions per image, 64 x 64 each.
        seed: Seed of the masks and classes.
        classes: Number of class folders that the names are spread over.
        ragged: Unevenness of the masks' outlines. 0: ellipses, about 70 runs per mask; 1: about 155, the number that
            MaskCut's masks of photographs would have at this size (they have 57 at 24 x 24).
    """
    schema = arrow_schema()
    distinct = pa.Table.from_pylist(_distinct_rows(min(rows, DISTINCT), regions, seed, ragged), schema=schema)
    ids, labels = image_ids(rows, classes)
    (folder / "data").mkdir(parents=True)
    shards = -(-rows // _SHARD_ROWS)
    for k in range(shards):
        part = slice(k * _SHARD_ROWS, (k + 1) * _SHARD_ROWS)
        table = distinct.take(np.arange(rows)[part] % len(distinct))
        names = {"image_id": ids[part], "file_name": [f"{i}.JPEG" for i in ids[part]], "label": labels[part]}
        for name, values in names.items():
            place = schema.get_field_index(name)
            table = table.set_column(place, schema.field(name), pa.array(values, schema.field(name).type))
        pq.write_table(
            table,
            folder / "data" / shard_name("train", k, shards),
            compression="zstd",
            row_group_size=5000,
            write_page_checksum=True,
        )
    return folder


def _distinct_rows(count: int, regions: int, seed: int, ragged: float) -> list[dict]:
    generator = np.random.default_rng(seed)
    rows = []
    for masks in _blobs(generator, count * regions, ragged).reshape(count, regions, 64, 64):
        found = [_region(mask, generator.choice(NUM_CLASSES, 5, replace=False).tolist()) for mask in masks]
        labels = list(dict.fromkeys(region["label"] for region in found))
        rows.append({
            "image_id": "", "file_name": "", "label": 0, "height": HEIGHT, "width": WIDTH, "labels": labels,
            "scores": [0.9] * len(labels), "regions": found, "status": "ok",
        })  # fmt: skip
    return rows


def _region(mask: np.ndarray, classes: list[int]) -> dict:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    corner = [int(columns[0]), int(rows[0])]
    box = [*corner, int(columns[-1]) + 1 - corner[0], int(rows[-1]) + 1 - corner[1]]
    return {
        "mask": {"size": list(mask.shape), "counts": encode_mask(mask)}, "bbox": [side / 64 for side in box],
        "area": float(mask.mean()), "label": classes[0], "score": 0.9, "topk_labels": classes,
        "topk_scores": [0.9, 0.3, 0.1, 0.05, 0.01], "alignment": 0.5,
    }  # fmt: skip


def _blobs(generator: np.random.Generator, count: int, ragged: float) -> np.ndarray:
    """Return (count, 64, 64) bool: ellipses with noisy outlines; none is empty."""
    ys, xs = np.mgrid[0:64, 0:64] + 0.5
    out = np.zeros((count, 64, 64), np.bool_)
    for mask in out:
        (y, x), (a, b) = generator.uniform(0.25, 0.75, 2) * 64, generator.uniform(0.12, 0.45, 2) * 64
        noise = generator.standard_normal((64, 64)) * ragged
        mask[:] = ((ys - y) / a) ** 2 + ((xs - x) / b) ** 2 + 0.13 * noise < 1
        mask[int(y), int(x)] = True
    return out


def write_label_maps(folder: Path, ids: Sequence[str], seed: int) -> None:
    """Write `<image_id>.pt` for each image: [2, 5, 15, 15], the top-5 logits and classes at each place."""
    generator = torch.Generator().manual_seed(seed)
    for image_id in ids:
        logits, classes = torch.randn(NUM_CLASSES, 15, 15, generator=generator).topk(5, dim=0)
        path = folder / f"{image_id}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.stack([logits, classes.float()]), path)


def write_table(path: Path, annotations: Path) -> None:
    """Write a dataset's labels as the paper's table: file name, original label, classes, probabilities."""
    columns = ["file_name", "label", "labels", "scores"]
    with path.open("w", encoding="utf-8") as out:
        for shard in sorted((annotations / "data").glob("train-*.parquet")):
            for row in pq.read_table(shard, columns=columns).to_pylist():
                classes = ",".join(map(str, row["labels"]))
                scores = ",".join(f"{score:.4f}" for score in row["scores"])
                out.write(f"{row['file_name'].rpartition('/')[2]}\t{row['label']}\t{classes}\t{scores}\n")
