"""Stage 1, regions: forward pass, MaskCut, alignment with the original label and pooled features, in one pass.

No later stage decodes pixels. Each image becomes one row: status, size, the regions' masks (COCO RLE on the patch
grid), their alignment, and float16 features of the regions and, last, of the whole image. A batch stays on the device
from the forward pass to the pooled features; only small results come back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow.parquet as pq
import torch

from build.config.options import BuildConfig, digest
from build.images.listing import ImageInput
from build.images.reader import ImageReader
from build.networks.forward import Clock, Forward, ForwardBatch
from build.ops.maskcut import maskcut
from build.ops.peaks import Peaks, evidence, find_elsewhere, find_peaks, grow, grow_object
from build.ops.pooling import pool, region_weights
from build.records import RegionsRow, table_of
from build.region_batch import RegionBatch, make_rows
from build.stage import Stage
from build.state.ledger import UnitOutput
from build.state.plan import Plan, Unit, inputs_digest

__all__ = ["RegionsStage"]

_LIKELY = 20  # a region's likeliest classes, which are checked for evidence elsewhere


class RegionsStage(Stage):
    """Finds the regions of each image and everything that later stages need of them."""

    name = "regions"
    method = 2
    in_workers = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._forward: Forward | None = None
        self._reader = ImageReader(plan.listing.root)
        self._writers = ThreadPoolExecutor(1)

    def settings(self) -> dict[str, Any]:
        """Omit `calibrate_tau`: only the chosen tau matters."""
        return {name: value for name, value in super().settings().items() if name != "calibrate_tau"}

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings and the unit's image files (names, sizes, modification times)."""
        return digest([settings, inputs_digest(self.plan.images(unit))])

    def close(self) -> None:
        """Stop the threads."""
        self._writers.shutdown()
        if self._forward is not None:
            self._forward.close()

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Compute a shard. Threads decode the next batches and make the last one's rows while the device works."""
        self._forward = self._forward or Forward(self.plan.config)
        clock, dimension = Clock(), 0
        rows: list[RegionsRow] = []
        label_maps, byproducts, solver = Counter[str](), Counter[str](), Counter[str]()
        making: deque[Future[list[RegionsRow]]] = deque()
        for seen in self._forward.batches(self.plan.images(unit), self._reader, clock):
            label_maps.update(d.label_map_status for d in seen.decoded if d.tensors)
            byproducts.update(d.byproduct_status for d in seen.decoded if d.byproduct_status)
            found = clock.timed("cut", find_regions, seen, self.plan.config)
            if found is not None:
                dimension = found.features.shape[2]
                solver.update(passes=int(found.passes.sum()), dense=int(found.exact.sum()))
            making.append(self._writers.submit(clock.timed, "rows", make_rows, seen.images, seen.decoded, found))
            while len(making) > 1:
                rows += making.popleft().result()
            advance(len(seen.images))
        for future in making:
            rows += future.result()
        place = {image.image_id: k for k, image in enumerate(self.plan.images(unit))}
        rows.sort(key=lambda row: place[row.image_id])
        facts = {
            "seconds": {name: round(value, 3) for name, value in sorted(clock.seconds.items())},
            "regions": sum(len(row.counts) for row in rows),
            "statuses": dict(sorted(Counter(row.status for row in rows).items())),
            "networks": self._forward.credits(),
            "label_maps": dict(sorted(label_maps.items())),
            "byproducts": dict(sorted(byproducts.items())),
            "dimension": dimension,
            "solver": dict(solver),
        }
        table = table_of(rows, RegionsRow)
        return UnitOutput(len(rows), facts, lambda path: pq.write_table(table, path, compression="zstd"))


@torch.inference_mode()
def find_regions(seen: ForwardBatch, config: BuildConfig) -> RegionBatch | None:
    """Return the regions of a batch's readable images, or None if there are none.

    All tensors stay on the networks' device until the end; only small results come back.
    """
    if seen.maps is None:
        return None
    maps, images = seen.maps, seen.readable
    cut = maskcut(
        maps.patches, tau=config.tau, num_regions=config.num_regions, min_area=config.min_area, max_iou=config.max_iou
    )
    evident = evidence(maps.label_maps, config.temperature)
    originals = torch.tensor(
        [-1 if image.label is None else image.label for image in images], device=maps.patches.device
    )
    peaks = find_peaks(maps.label_maps, evident, config.peaks, config.peak_score, config.temperature)
    own = grow_object(maps.patches, maps.features[0], maps.label_maps, originals)
    grown = grow(maps.patches, peaks)
    masks = torch.cat((own, cut.masks, grown), dim=1)
    kept = torch.cat((own.flatten(2).any(2), cut.kept, grown.flatten(2).any(2)), dim=1)
    probabilities = _probabilities(maps.label_maps, masks, peaks, config)
    named = probabilities.topk(_LIKELY, dim=2) if config.classify_first else None
    probabilities = probabilities[:, :-1]
    wanted = originals.clamp_min(0)
    alignment = probabilities.gather(2, wanted[:, None, None].expand(-1, probabilities.shape[1], 1))[..., 0]
    likely = probabilities.topk(_LIKELY, dim=2).indices
    features = _pooled(maps.features, masks, peaks)
    shape = (*masks.shape[:2], config.feature_variants, features.shape[2])
    thinned = [_thinned(masks, images, k, config.patch_dropout) for k in range(config.feature_variants)]
    variants = (
        torch.stack([_pooled(maps.features, m, peaks)[:, :-1] for m in thinned], 2) if thinned else torch.zeros(shape)
    )
    found = {
        "masks": masks,
        "kept": kept,
        "alignment": alignment,
        "likely": likely,
        "elsewhere": find_elsewhere(evident, masks, likely, config.located),
        "features": features.half(),
        "variants": variants.half(),
        "passes": cut.passes.sum(1),
        "exact": cut.exact.sum(1),
    }
    if seen.whole is not None:
        found["whole"] = seen.whole
    if seen.places is not None:
        found["places"] = seen.places.half()
    if named is not None:
        found |= {"class_scores": named.values, "classes": named.indices}
    return RegionBatch(**{name: value.cpu().numpy() for name, value in found.items()}, objects=own.shape[1])


def _probabilities(
    maps: Sequence[torch.Tensor], masks: torch.Tensor, peaks: Peaks, config: BuildConfig
) -> torch.Tensor:
    """Return (B, R + 1, K) probabilities, the whole image last: of mean logits, or averaged if classifying first."""
    if config.classify_first:
        return _pooled([(values / config.temperature).softmax(dim=1) for values in maps], masks, peaks)
    return (_pooled(maps, masks, peaks) / config.temperature).softmax(dim=2)


def _thinned(masks: torch.Tensor, images: Sequence[ImageInput], version: int, share: float) -> torch.Tensor:
    """Drop a share of the patches of (B, R, h, w) masks, the same ones for an image each time; never all of a mask."""
    kept = []
    for image, regions in zip(images, masks, strict=True):
        seed = int(digest([image.image_id, version])[:15], 16)
        drawn = torch.rand(regions.shape, generator=torch.Generator().manual_seed(seed)) >= share
        kept.append(drawn.to(masks.device))
    thinned = masks & torch.stack(kept)
    return torch.where(thinned.flatten(2).any(2)[..., None, None], thinned, masks)


def _pooled(maps: Sequence[torch.Tensor], masks: torch.Tensor, peaks: Peaks) -> torch.Tensor:
    """Return the regions' means, averaged over maps: (B, R + 1, C), the whole image last.

    The mean over a region grown from a peak averages the mean over its mask and the mean over the windows in which its
    class peaks.
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
