"""Compose scenes of several known objects: cut out of photographs, varied, and pasted over other photographs.

Objects and masks are known by construction, so training needs no annotations that could be wrong. Scenes depend on the
seed only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from mlimagenet_data.annotations.masks import encode_mask
from mlimagenet_data.annotations.schema import arrow_schema, shard_name
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.files.atomic import write_atomic
from mlimagenet_data.formats.regions import mask_columns
from mlimagenet_data.images import load_image

__all__ = ["GRID", "MEAN_OBJECTS", "SIZE", "Material", "Scene", "compose", "gather", "write_scenes"]

SIZE, GRID = 160, 40  # pixels per side of a scene; cells per side of its masks
_COUNTS = (0.35, 0.3, 0.2, 0.15)  # share of scenes with 1, 2, 3, 4 objects
MEAN_OBJECTS = sum((k + 1) * share for k, share in enumerate(_COUNTS))
_LEAST_SEEN = 0.3  # least visible share of an object; scenes with less are redrawn
_CUTOUT = 128  # maximum pixels per side of a cut-out object


@dataclass(frozen=True)
class Material:
    """Objects and backgrounds of scenes.

    Attributes:
        classes: The class of each object, all distinct.
        objects: RGBA pictures of the objects.
        backgrounds: RGB photographs of other things.
    """

    classes: list[int]
    objects: list[Image.Image]
    backgrounds: list[Image.Image]


@dataclass(frozen=True)
class Scene:
    """A picture, (SIZE, SIZE, 3) uint8, and its objects, largest first: (class, (GRID, GRID) bool mask)."""

    pixels: NDArray[np.uint8]
    objects: list[tuple[int, NDArray[np.bool_]]]


def gather(annotations: Path, images: Path, count: int) -> Material:
    """Cut the clearest objects of different classes out of annotated photographs.

    An object is the region that agrees best with the photograph's original label, among those that cover 8% to 60% of
    the photograph. The photographs with the highest agreement provide objects; photographs of other classes are
    backgrounds.

    Args:
        annotations: A built dataset.
        images: The folder of its images.
        count: Number of objects.

    Raises:
        ValueError: If there are fewer objects, or no photograph remains for backgrounds.
    """
    store = AnnotationStore(annotations, "train")
    ranked = []
    for row in store.usable_rows().tolist():
        record = store.record(row)
        fit = [
            (r.score, k)
            for k, r in enumerate(record.regions)
            if r.label == record.label and 0.08 <= r.mask.mean() <= 0.6
        ]
        score, k = max(fit, default=(0.0, -1))
        ranked.append((-score, row, k))
    ranked.sort()
    chosen: dict[int, tuple[int, int]] = {}
    for score, row, k in ranked:
        label = store.record(row).label
        if score < 0 and len(chosen) < count and label is not None:
            chosen.setdefault(label, (row, k))
    others = [row for _, row, _ in ranked if store.record(row).label not in chosen]
    if len(chosen) < count or not others:
        raise ValueError(
            f"{annotations}: {len(chosen)} clear objects and {len(others)} other photographs; at least {count} and 1 needed"
        )
    classes = sorted(chosen)
    objects = [_cut_out(store, images, *chosen[label]) for label in classes]
    backgrounds = [_square(load_image(images / store.record(row).file_name)) for row in sorted(others)]
    return Material(classes, objects, backgrounds)


def _cut_out(store: AnnotationStore, images: Path, row: int, k: int) -> Image.Image:
    record = store.record(row)
    image, mask = load_image(images / record.file_name).convert("RGB"), record.regions[k].mask
    alpha = Image.fromarray(255 * mask.astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    alpha = alpha.point(lambda value: min(255, max(0, 4 * (value - 96))))  # a narrow soft edge
    image.putalpha(alpha)
    cut = image.crop(alpha.getbbox())
    cut.thumbnail((_CUTOUT, _CUTOUT), Image.Resampling.LANCZOS)
    return cut


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))


def compose(material: Material, count: int, seed: Sequence[int]) -> list[Scene]:
    """Draw scenes.

    Args:
        material: The objects and backgrounds.
        count: Number of scenes.
        seed: Seed of the generator.
    """
    generator = np.random.default_rng(seed)
    return [_scene(material, generator) for _ in range(count)]


def _scene(material: Material, generator: np.random.Generator) -> Scene:
    wanted = 1 + int(generator.choice(len(_COUNTS), p=_COUNTS))
    while True:
        canvas = _varied(material.backgrounds[generator.integers(len(material.backgrounds))], generator)
        chosen = generator.choice(len(material.objects), size=min(wanted, len(material.objects)), replace=False)
        covers: list[NDArray[np.float64]] = []
        whole = []
        for k in chosen:
            cover = _paste(canvas, _varied(material.objects[k], generator), generator)
            covers = [other * (1 - cover) for other in covers] + [cover]
            whole.append(cover.sum())
        masks = [_on_grid(cover) for cover in covers]
        seen = [cover.sum() / total for cover, total in zip(covers, whole, strict=True)]
        if min(seen) >= _LEAST_SEEN and all(mask.any() for mask in masks):
            found = [(material.classes[k], mask) for k, mask in zip(chosen, masks, strict=True)]
            return Scene(np.asarray(canvas), sorted(found, key=lambda item: -int(item[1].sum())))


def _varied(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Mirror at random, change brightness, contrast and colour slightly, and rotate cut-outs."""
    out = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else image.copy()
    alpha = out.getchannel("A") if out.mode == "RGBA" else None
    out = out.convert("RGB")
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        out = change(out).enhance(float(generator.uniform(0.7, 1.3)))
    if alpha is not None:
        out.putalpha(alpha)
        out = out.rotate(float(generator.uniform(-15, 15)), Image.Resampling.BILINEAR, expand=True)
    return out


def _paste(canvas: Image.Image, cut: Image.Image, generator: np.random.Generator) -> NDArray[np.float64]:
    """Paste a cut-out fully inside, in place; return its cover of each pixel, (SIZE, SIZE) in [0, 1]."""
    side = SIZE * float(generator.uniform(0.25, 0.65))
    scale = side / max(cut.size)
    small = cut.resize((max(1, round(cut.width * scale)), max(1, round(cut.height * scale))), Image.Resampling.LANCZOS)
    left = int(generator.integers(0, SIZE - small.width + 1))
    top = int(generator.integers(0, SIZE - small.height + 1))
    canvas.paste(small, (left, top), small)
    cover = np.zeros((SIZE, SIZE))
    cover[top : top + small.height, left : left + small.width] = np.asarray(small.getchannel("A"), np.float64) / 255
    return cover


def _on_grid(cover: NDArray[np.float64]) -> NDArray[np.bool_]:
    step = SIZE // GRID
    return np.asarray(cover.reshape(GRID, step, GRID, step).mean(axis=(1, 3)) >= 0.5)


def write_scenes(scenes: Sequence[Scene], root: Path) -> None:
    """Write scenes as an image folder with annotations, `root/train` and `root/mlimagenet`.

    The largest object sets the class. `MultiLabelImageNet(root)` reads the result.
    """
    classes, rows = imagenet_classes(), []
    for number, scene in enumerate(scenes):
        label = scene.objects[0][0]
        name = f"{classes.wnids[label]}/{number:05d}"
        path = root / "train" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.pixels).save(path)
        rows.append({
            "image_id": name, "file_name": f"{name}.png", "label": label, "height": SIZE, "width": SIZE,
            "labels": [index for index, _ in scene.objects], "scores": [1.0] * len(scene.objects),
            "regions": [_region(index, mask) for index, mask in scene.objects], "status": "ok",
        })  # fmt: skip
    folder = root / "mlimagenet" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=arrow_schema())
    write_atomic(folder / shard_name("train", 0, 1), lambda path: pq.write_table(table, path))


def _region(label: int, mask: NDArray[np.bool_]) -> dict[str, object]:
    ranking = {"label": label, "score": 1.0, "topk_labels": [label], "topk_scores": [1.0], "alignment": 1.0}
    return {**mask_columns((GRID, GRID), encode_mask(mask)), **ranking}
