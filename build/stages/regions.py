"""Stage 1, regions: one pass over the images. Forward, MaskCut, alignment with the original label, pooled features.

Nothing after this stage touches pixels. One row an image: status, size, the regions' masks (COCO RLE on the patch grid), their
alignment, and float16 features of the regions and, last, of the whole image.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from build.config import BuildConfig, digest
from build.inputs import ImageInput
from build.ledger import Output
from build.models.embedded import EmbeddedBackbone, Maps
from build.ops.maskcut import maskcut
from build.ops.pooling import pool, region_weights, softmax
from build.plan import Plan, Stage, Unit, inputs_digest
from mlimagenet_data.errors import ImageError
from mlimagenet_data.images import load_image
from mlimagenet_data.masks import encode_mask

__all__ = ["SCHEMA", "RegionsStage", "pick_device"]

SCHEMA = pa.schema([
    ("image_id", pa.string()),
    ("file_name", pa.string()),
    ("label", pa.int64()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("grid", pa.list_(pa.int32())),  # (gh, gw) of the masks
    ("counts", pa.list_(pa.string())),
    ("bbox", pa.list_(pa.list_(pa.float32()))),
    ("area", pa.list_(pa.float32())),
    ("alignment", pa.list_(pa.float32())),  # null without an original label
    ("features", pa.binary()),  # (R + 1, D) little-endian float16, the whole image last
])  # fmt: skip


def pick_device(name: str) -> torch.device:
    """Return the torch device of `--device`; auto takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@dataclass
class _Clock:
    """Seconds spent on each part of the work, summed over threads."""

    seconds: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            with self.lock:
                self.seconds[name] += time.perf_counter() - start  # type: ignore[assignment]


@dataclass(frozen=True)
class _Decoded:
    """A file as the network takes it, or why it cannot be."""

    tensor: torch.Tensor | None
    size: tuple[int, int] | None
    status: str
    reason: str | None


class RegionsStage(Stage):
    """Finds the regions of each image and all that later stages need of them."""

    name = "regions"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._workers = plan.config.workers or os.cpu_count() or 1
        self._pool: ThreadPoolExecutor | None = None
        self._backbone: EmbeddedBackbone | None = None

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings and the unit's image files (names, sizes, modification times)."""
        return digest([settings, inputs_digest(self.plan.images(unit))])

    @property
    def backbone(self) -> EmbeddedBackbone:
        """The network, loaded when it is first needed."""
        if self._backbone is None:
            config = self.plan.config
            self._backbone = EmbeddedBackbone(config.image_size, pick_device(config.device))
        return self._backbone

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> Output:
        """Compute a shard; decoding and cutting run in threads beside the forward."""
        self._pool = self._pool or ThreadPoolExecutor(self._workers)
        clock = _Clock()
        images = self.plan.images(unit)
        rows: list[dict[str, Any]] = []
        # One BLAS thread a cut: the number of workers must not change the order of its sums.
        with threadpool_limits(1, user_api="blas"):
            for batch, decoded in self._decoded(images, clock):
                rows.extend(self._rows(batch, decoded, clock))
                advance(len(batch))
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        seconds = {name: round(value, 3) for name, value in sorted(clock.seconds.items())}
        statuses = dict(sorted(Counter(row["status"] for row in rows).items()))
        facts = {"seconds": seconds, "statuses": statuses, "regions": sum(len(row["counts"]) for row in rows)}
        return Output(len(rows), facts, lambda path: pq.write_table(table, path, compression="zstd"))

    def _decoded(self, images: list[ImageInput], clock: _Clock) -> Iterator[tuple[list[ImageInput], list[_Decoded]]]:
        """Yield batches in order; the next batch is decoded while the caller works on this one."""
        assert self._pool is not None
        size = self.plan.config.batch_size
        batches = [images[i : i + size] for i in range(0, len(images), size)]
        root, prepare = self.plan.listing.root, self.backbone.prepare

        def submit(batch: list[ImageInput]) -> list[Future[_Decoded]]:
            assert self._pool is not None
            return [self._pool.submit(clock.timed, "decode", _decode, str(root / i.file_name), prepare) for i in batch]

        ahead = submit(batches[0])
        for k, batch in enumerate(batches):
            decoded = [future.result() for future in ahead]
            ahead = submit(batches[k + 1]) if k + 1 < len(batches) else []
            yield batch, decoded

    def _rows(self, batch: list[ImageInput], decoded: list[_Decoded], clock: _Clock) -> list[dict[str, Any]]:
        assert self._pool is not None
        tensors = [d.tensor for d in decoded if d.tensor is not None]
        seen: Iterator[dict[str, Any]] = iter(())
        if tensors:
            maps = clock.timed("forward", self.backbone, torch.stack(tensors))
            labels = [image.label for image, d in zip(batch, decoded, strict=True) if d.tensor is not None]
            views = [_one(maps, k) for k in range(len(tensors))]
            seen = self._pool.map(lambda v, y: clock.timed("cut", _regions, v, y, self.plan.config), views, labels)
        return [
            _row(image, d, next(seen) if d.tensor is not None else {}) for image, d in zip(batch, decoded, strict=True)
        ]


def _decode(path: str, prepare: Callable[[Any], torch.Tensor]) -> _Decoded:
    try:
        image = load_image(path)
    except ImageError as error:
        return _Decoded(None, None, error.status, str(error))
    return _Decoded(prepare(image), (image.height, image.width), "ok", None)


@dataclass(frozen=True)
class _View:
    """One image's maps as arrays: patches (C, h, w), features (D, h', w'), label map (K, h', w')."""

    patches: NDArray[np.float32]
    features: NDArray[np.float32]
    label_map: NDArray[np.float32]


def _one(maps: Maps, k: int) -> _View:
    return _View(maps.patches[k].numpy(), maps.features[k].numpy(), maps.label_map[k].numpy())


def _regions(view: _View, label: int | None, config: BuildConfig) -> dict[str, Any]:
    masks = maskcut(
        view.patches, tau=config.tau, num_regions=config.num_regions, min_area=config.min_area, max_iou=config.max_iou
    )
    height, width = view.features.shape[1:]
    weights = region_weights(masks, (height, width))
    logits = pool(view.label_map, weights[:-1])
    alignment = softmax(logits, config.temperature)[:, label] if label is not None else [None] * len(masks)
    return {
        "status": "ok" if masks else "no_regions",
        "grid": list(view.patches.shape[1:]),
        "counts": [encode_mask(mask) for mask in masks],
        "bbox": [_bbox(mask) for mask in masks],
        "area": [float(mask.mean()) for mask in masks],
        "alignment": list(alignment),
        "features": pool(view.features, weights).astype("<f2").tobytes(),
    }


def _bbox(mask: NDArray[np.bool_]) -> list[float]:
    """Return [x, y, width, height] of a mask, as shares of the image's width and height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    top, left = rows[0] / height, columns[0] / width
    return [float(left), float(top), float((columns[-1] + 1) / width - left), float((rows[-1] + 1) / height - top)]


def _row(image: ImageInput, decoded: _Decoded, seen: dict[str, Any]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"grid": None, "counts": [], "bbox": [], "area": [], "alignment": [], "features": None}
    height, width = decoded.size or (None, None)
    return {
        "image_id": image.image_id,
        "file_name": image.file_name,
        "label": image.label,
        "height": height,
        "width": width,
        "status": decoded.status,
        "reason": decoded.reason,
        **nothing,
        **seen,
    }
