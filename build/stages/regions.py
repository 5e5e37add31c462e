"""Stage 1, regions: one pass over the images. Forward, MaskCut, alignment with the original label, pooled features.

Nothing after this stage touches pixels. One row an image: status, size, the regions' masks (COCO RLE on the patch grid), their
alignment, and float16 features of the regions and, last, of the whole image. The device sees a batch from the forward to the
pooled features; what comes back is small.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from build.byproducts import Click
from build.calibrate import choose_tau, stability
from build.config import BuildConfig, ConfigError, digest
from build.inputs import ImageInput, evenly_spaced
from build.ledger import Output, read_json, write_json
from build.models.maps import Maps
from build.ops.maskcut import maskcut
from build.ops.peaks import Peaks, elsewhere, evidence, find_peaks, grow
from build.ops.pooling import pool, region_weights
from build.plan import Plan, Stage, Unit, inputs_digest
from build.progress import console, meter
from build.sources import ImageReader
from build.stages.forward import Clock, Decoded, Forward, Seen
from mlimagenet_data.masks import encode_mask

__all__ = ["SCHEMA", "RegionsStage", "clicked_regions", "with_tau"]

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
    ("clicked", pa.list_(pa.bool_())),  # by an annotator; null without byproducts
    ("elsewhere", pa.list_(pa.list_(pa.int16()))),  # of the region's best classes those whose evidence lies elsewhere
    ("features", pa.binary()),  # (R + 1, D) little-endian float16, the whole image last
    ("variants", pa.binary()),  # (R, V, D), likewise, the regions' features with patches dropped
])  # fmt: skip


_LIKELY = 20  # classes of a region that are checked for being seen elsewhere


class _Found(NamedTuple):
    """What is kept of B images, on the CPU; R regions each, of which some are empty.

    Attributes:
        masks: (B, R, h, w) bool.
        kept: (B, R) bool.
        alignment: (B, R) float32; meaningless without an original label, NaN without a label map.
        likely: (B, R, C) int64, the classes that the label map gives most in the region.
        elsewhere: (B, R, C) bool, which of these are seen elsewhere rather than there.
        features: (B, R + 1, D) float16, the whole image last.
        variants: (B, R, V, D) float16, with patches dropped.
        passes: (B,) int64, products that the eigen solver took.
        exact: (B,) int64, cuts for which it fell back to the dense solver.
    """

    masks: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    alignment: NDArray[np.float32]
    likely: NDArray[np.int64]
    elsewhere: NDArray[np.bool_]
    features: NDArray[np.float16]
    variants: NDArray[np.float16]
    passes: NDArray[np.int64]
    exact: NDArray[np.int64]


class RegionsStage(Stage):
    """Finds the regions of each image and all that later stages need of them."""

    name = "regions"
    in_workers = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._forward: Forward | None = None
        self._reader = ImageReader(plan.listing.root)
        self._writers = ThreadPoolExecutor(1)

    def settings(self) -> dict[str, Any]:
        """Leave out how tau was chosen."""
        return {name: value for name, value in super().settings().items() if name != "calibrate_tau"}

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings and the unit's image files (names, sizes, modification times)."""
        return digest([settings, inputs_digest(self.plan.images(unit))])

    def close(self) -> None:
        """End the threads."""
        self._writers.shutdown()
        if self._forward is not None:
            self._forward.close()

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> Output:
        """Compute a shard. Decoding the next batches, and making rows of the last one, go on beside the device's work."""
        self._forward = self._forward or Forward(self.plan.config)
        clock, rows, dimension = Clock(), [], 0
        label_maps, byproducts, solver = Counter[str](), Counter[str](), Counter[str]()
        making: deque[Future[list[dict[str, Any]]]] = deque()
        for seen in self._forward.batches(self.plan.images(unit), self._reader, clock):
            label_maps.update(d.label_map_status for d in seen.decoded if d.tensors)
            byproducts.update(d.byproduct_status for d in seen.decoded if d.byproduct_status)
            found = clock.timed("cut", self._find, seen)
            if found is not None:
                dimension = found.features.shape[2]
                solver.update(passes=int(found.passes.sum()), dense=int(found.exact.sum()))
            making.append(self._writers.submit(clock.timed, "rows", _rows, seen.images, seen.decoded, found))
            while len(making) > 1:
                rows += making.popleft().result()
            advance(len(seen.images))
        for future in making:
            rows += future.result()
        facts = {
            "seconds": {name: round(value, 3) for name, value in sorted(clock.seconds.items())},
            "regions": sum(len(row["counts"]) for row in rows),
            "statuses": dict(sorted(Counter(row["status"] for row in rows).items())),
            "networks": self._forward.credits(),
            "label_maps": dict(sorted(label_maps.items())),
            "byproducts": dict(sorted(byproducts.items())),
            "dimension": dimension,
            "solver": dict(solver),
        }
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        return Output(len(rows), facts, lambda path: pq.write_table(table, path, compression="zstd"))

    def _find(self, seen: Seen) -> _Found | None:
        if seen.maps is None:
            return None
        found, masks, kept = _find(seen.maps, seen.readable, self.plan.config)
        if self.plan.config.second_look == "none":
            return found
        assert self._forward is not None
        with torch.inference_mode():
            again = self._forward.look_again(seen, masks, kept).cpu().numpy()
        found.features[:, :-1][found.kept] = (found.features[:, :-1][found.kept] + again) / 2
        return found


@torch.inference_mode()
def _find(maps: Maps, images: Sequence[ImageInput], config: BuildConfig) -> tuple[_Found, torch.Tensor, torch.Tensor]:
    cut = maskcut(
        maps.patches, tau=config.tau, num_regions=config.num_regions, min_area=config.min_area, max_iou=config.max_iou
    )
    evident = evidence(maps.label_maps, config.temperature)
    peaks = find_peaks(maps.label_maps, evident, config.peaks, config.peak_score, config.temperature)
    grown = grow(maps.patches, peaks)
    masks = torch.cat((cut.masks, grown), dim=1)
    kept = torch.cat((cut.kept, grown.flatten(2).any(2)), dim=1)
    logits = _pooled(maps.label_maps, masks, peaks)[:, :-1]
    probabilities = (logits / config.temperature).softmax(dim=2)
    wanted = torch.tensor([image.label or 0 for image in images], device=logits.device)
    alignment = probabilities.gather(2, wanted[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]
    likely = probabilities.topk(_LIKELY, dim=2).indices
    features = _pooled(maps.features, masks, peaks)
    shape = (*masks.shape[:2], config.feature_variants, features.shape[2])
    thinned = [_thinned(masks, images, k, config.patch_dropout) for k in range(config.feature_variants)]
    variants = (
        torch.stack([_pooled(maps.features, m, peaks)[:, :-1] for m in thinned], 2) if thinned else torch.zeros(shape)
    )
    values = (
        masks,
        kept,
        alignment,
        likely,
        elsewhere(evident, masks, likely, config.located),
        features.half(),
        variants.half(),
        cut.passes.sum(1),
        cut.exact.sum(1),
    )
    return _Found(*(value.cpu().numpy() for value in values)), masks, kept


def _thinned(masks: torch.Tensor, images: Sequence[ImageInput], version: int, share: float) -> torch.Tensor:
    """Return (B, R, h, w) masks with a share of their patches left out, always the same ones of an image; never all of them."""
    kept = []
    for image, regions in zip(images, masks, strict=True):
        seed = int(digest([image.image_id, version])[:15], 16)
        drawn = torch.rand(regions.shape, generator=torch.Generator().manual_seed(seed)) >= share
        kept.append(drawn.to(masks.device))
    thinned = masks & torch.stack(kept)
    return torch.where(thinned.flatten(2).any(2)[..., None, None], thinned, masks)


def _pooled(maps: Sequence[torch.Tensor], masks: torch.Tensor, peaks: Peaks) -> torch.Tensor:
    """Return the regions' means, averaged over maps: (B, R + 1, C), the whole image last.

    A region grown from a peak counts half by its mask and half by the windows in which its class was seen best.
    """
    found = []
    first = masks.shape[1] - peaks.classes.shape[1]
    for k, values in enumerate(maps):
        size = (values.shape[2], values.shape[3])
        weights = region_weights(masks, size)
        windows = region_weights(peaks.windows[min(k, len(peaks.windows) - 1)], size)[:, :-1]
        weights[:, first:-1] = (weights[:, first:-1] + windows) / 2
        found.append(pool(values, weights))
    return torch.stack(found).mean(dim=0)


def _rows(images: list[ImageInput], decoded: list[Decoded], found: _Found | None) -> list[dict[str, Any]]:
    rows, k = [], 0
    for image, d in zip(images, decoded, strict=True):
        seen: dict[str, Any] = {}
        if d.tensors and found is not None:
            seen, k = _regions(found, k, image.label, d), k + 1
        rows.append(_row(image, d, seen))
    return rows


def _regions(found: _Found, k: int, label: int | None, decoded: Decoded) -> dict[str, Any]:
    kept = np.flatnonzero(found.kept[k])
    masks = found.masks[k, kept]
    alignment = found.alignment[k, kept]
    return {
        "status": "ok" if len(masks) else "no_regions",
        "grid": list(masks.shape[1:]),
        "counts": [encode_mask(mask) for mask in masks],
        "bbox": [_bbox(mask) for mask in masks],
        "area": [float(mask.mean()) for mask in masks],
        "alignment": [None if label is None or np.isnan(value) else float(value) for value in alignment],
        "clicked": _clicked(masks, alignment, decoded),
        "elsewhere": [
            classes[other].tolist()
            for classes, other in zip(found.likely[k, kept], found.elsewhere[k, kept], strict=True)
        ],
        "features": found.features[k, [*kept, -1]].astype("<f2").tobytes(),
        "variants": found.variants[k, kept].astype("<f2").tobytes(),
    }


def _clicked(masks: NDArray[np.bool_], alignment: NDArray[np.float32], decoded: Decoded) -> list[bool | None]:
    if decoded.byproduct_status is None:
        return [None] * len(masks)
    return list(clicked_regions(masks, alignment, decoded.clicks).tolist())


def clicked_regions(
    masks: NDArray[np.bool_], alignment: NDArray[np.float32], clicks: Sequence[Click]
) -> NDArray[np.bool_]:
    """Return which of (R, h, w) masks were clicked on: for each click, of the regions it lies in, the best aligned one.

    Without a label map (alignment NaN) the smallest one is taken.
    """
    out = np.zeros(len(masks), bool)
    height, width = masks.shape[1:]
    for x, y in clicks:
        under = np.flatnonzero(masks[:, min(int(y * height), height - 1), min(int(x * width), width - 1)])
        if len(under):
            order = np.lexsort((masks[under].mean(axis=(1, 2)), -np.nan_to_num(alignment[under], nan=0.0)))
            out[under[order[0]]] = True
    return out


def _bbox(mask: NDArray[np.bool_]) -> list[float]:
    """Return [x, y, width, height] of a mask, as shares of the image's width and height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    top, left = rows[0] / height, columns[0] / width
    return [float(left), float(top), float((columns[-1] + 1) / width - left), float((rows[-1] + 1) / height - top)]


def _row(image: ImageInput, decoded: Decoded, seen: dict[str, Any]) -> dict[str, Any]:
    nothing: dict[str, Any] = {name: [] for name in ("counts", "bbox", "area", "alignment", "clicked", "elsewhere")}
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


def with_tau(plan: Plan) -> Plan:
    """Return the plan with tau chosen from a sample, if its configuration says so; a choice made before is taken again.

    Raises:
        ConfigError: If no image of the sample can be read.
    """
    config = plan.config
    if not config.calibrate_tau:
        return plan
    sample = evenly_spaced(plan.listing.images, config.calibrate_tau)
    settings = {name: value for name, value in config.stage_settings("regions").items() if name != "tau"}
    path, key = plan.work / "tau.json", digest([settings, inputs_digest(sample)])
    known = read_json(path) or {}
    if known.get("key") != key:
        known = {"key": key, **_calibrate(plan, sample)}
        write_json(path, known)
    console.print(
        f"tau {known['tau']:g}, chosen from {len(sample)} images: {known['regions_that_stay']} regions an image stay there"
    )
    return dataclasses.replace(plan, config=dataclasses.replace(config, tau=known["tau"]))


def _calibrate(plan: Plan, sample: list[ImageInput]) -> dict[str, Any]:
    forward, counts = Forward(plan.config), []
    try:
        with meter("tau", len(sample)) as progress:
            for seen in forward.batches(sample, ImageReader(plan.listing.root), Clock()):
                if seen.maps is not None:
                    counts.append(stability(seen.maps.patches, plan.config))
                progress.advance(len(seen.images))
    finally:
        forward.close()
    if not counts:
        raise ConfigError(
            f"calibrate_tau: none of the {len(sample)} images of the sample in {plan.listing.root} can be read"
        )
    all_counts = np.concatenate(counts)
    tau = choose_tau(all_counts)
    return {"tau": tau, "images": len(all_counts), "regions_that_stay": round(float(all_counts.mean(axis=0).max()), 3)}
