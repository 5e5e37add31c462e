"""Stage 1, regions: forward pass, MaskCut, alignment with the original label and pooled features, in one pass.

No later stage decodes pixels. Each image becomes one row: status, size, the regions' masks (COCO RLE on the patch
grid), their alignment, and float16 features of the regions and, last, of the whole image. A batch stays on the device
from the forward pass to the pooled features; only small results come back.
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from build.config.options import BuildConfig, ConfigError, digest
from build.cpus import available_cpus
from build.images.listing import ImageInput, stamps_of
from build.images.reader import ImageReader
from build.labeler.head import one_thread
from build.networks.backbone import Maps
from build.networks.forward import Clock, Decoded, Forward, ForwardBatch, named_folder, sent
from build.ops.maskcut import maskcut
from build.ops.patches import moved, pick_patches
from build.ops.peaks import LEVELS, Peaks, evidence, find_elsewhere, find_peaks, grow, grow_object
from build.ops.pooling import pool, region_weights
from build.progress import console
from build.records import RegionsRow, read_rows, table_of
from build.region_batch import RegionBatch, make_rows
from build.stage import Stage
from build.state.ledger import UnitOutput
from build.state.plan import Plan, Unit, inputs_digest
from mlimagenet_data.annotations.schema import TRANSIENT_STATUSES
from mlimagenet_data.errors import MLImageNetError
from mlimagenet_data.files.reading import file_hash

__all__ = ["ImagesLostError", "RegionsStage"]

_MOST_LOST = 8  # images of a unit that may be lost before the whole build is counted
MOST_LOST_SHARE = 0.05  # of the images, if it is more than one
_LOST = (
    "{} of {} images could not be opened, though they could be listed; the first: {}. More than {:.0%} stop the build: "
    "restore the access, and run the same command again"
)
_LIKELY = 20  # a region's likeliest classes, which are checked for evidence elsewhere


class ImagesLostError(MLImageNetError, RuntimeError):
    """Images that could be listed, but not opened, in such numbers that the build stops."""


class RegionsStage(Stage):
    """Finds the regions of each image and everything that later stages need of them."""

    name = "regions"
    method = 2
    in_workers = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._forward: Forward | None = None
        self._reader = ImageReader(plan.listing.root)

    def settings(self) -> dict[str, Any]:
        """Omit `calibrate_tau`, since only the chosen tau matters; add the hashes of files of weights."""
        settings = {name: value for name, value in super().settings().items() if name != "calibrate_tau"}
        for name in ("weights", "classifier_weights"):
            if Path(settings[name]).is_file():
                settings[f"{name}_sha256"] = _hash_of(Path(settings[name]).resolve())
        return settings

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings and the unit's image files (names, sizes)."""
        return digest([settings, inputs_digest(self.plan.images(unit))])

    def check(self) -> None:
        """Raise ConfigError if a file of weights or a folder is missing."""
        config = self.plan.config
        for name in ("weights", "classifier_weights"):
            named = getattr(config, name)
            if named not in ("hub", "random") and not Path(named).is_file():
                raise ConfigError(f"{name}: {named} is not a file; pass a file, hub or random")
        for name in ("label_maps", "byproducts"):
            named_folder(config, name)

    def why_again(self, unit: Unit) -> str | None:
        """Do a unit again if files hold other bytes than before, or can be read now and could not be.

        Files whose times or inode differ from those before are hashed; with --check-content, all are.
        """
        ledger = self.plan.ledger(self.name)
        entry, images = ledger.entry(unit.file), self.plan.images(unit)
        if entry is None:
            return "not done yet"
        lost = [images[k] for k in entry.facts["lost"]]
        if any(self._reader.is_accessible(image) for image in lost):
            return "files can be opened now"
        stamps = self.plan.stamps(unit)
        if entry.facts["stamps"] == stamps and not self.plan.config.check_content:
            return None
        rows = read_rows(ledger.read(unit.file), RegionsRow, "content")
        with ThreadPoolExecutor(self.plan.config.workers or available_cpus()) as pool:
            found = pool.map(self._reader.digest, images)
            if any(row.content != digest for row, digest in zip(rows, found, strict=True)):
                return "files hold other bytes"
        ledger.update(replace(entry, facts={**entry.facts, "stamps": stamps}))
        return None

    def close(self) -> None:
        """Stop the threads."""
        if self._forward is not None:
            self._forward.close()

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Compute a shard. Threads decode the next batches; on the CPU, several batches are computed at a time."""
        self._forward = self._forward or Forward(self.plan.config)
        clock, dimension = Clock(), 0
        rows: list[RegionsRow] = []
        label_maps, byproducts, solver = Counter[str](), Counter[str](), Counter[str]()
        for seen, found in self._found(unit, self._forward, clock):
            label_maps.update(d.label_map_status for d in seen.decoded if d.tensors)
            byproducts.update(d.byproduct_status for d in seen.decoded if d.byproduct_status)
            if found is not None:
                dimension = found.features.shape[-1]
                solver.update(passes=int(found.passes.sum()), dense=int(found.exact.sum()))
            rows += clock.timed("rows", make_rows, seen.images, seen.decoded, found)
            advance(len(seen.images))
            self._check_access(unit, rows)
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
            "lost": [k for k, row in enumerate(rows) if row.status in TRANSIENT_STATUSES],
            "stamps": stamps_of(self.plan.images(unit)),
        }
        table = table_of(rows, RegionsRow)
        return UnitOutput(len(rows), facts, lambda path: pq.write_table(table, path, compression="zstd"))

    def _found(self, unit: Unit, forward: Forward, clock: Clock) -> Iterator[tuple[ForwardBatch, RegionBatch | None]]:
        """Yield each batch and its regions, in order. The next ones are computed meanwhile."""

        running: deque[Future[list[tuple[ForwardBatch, RegionBatch | None]]]] = deque()
        # The sum of floats depends on how threads share the work. So batches run in parallel, not operations, and the
        # results do not depend on the number of threads.
        with one_thread() as threads:
            width = 1 if forward.device.type == "cuda" else threads
            with ThreadPoolExecutor(width) as pool:
                for images, decoded in forward.decoded(self.plan.images(unit), self._reader, clock):
                    running.append(pool.submit(self._see_and_cut, forward, images, decoded, clock))
                    while len(running) > width:
                        yield from running.popleft().result()
                while running:
                    yield from running.popleft().result()

    def _see_and_cut(
        self, forward: Forward, images: Sequence[ImageInput], decoded: Sequence[Decoded], clock: Clock
    ) -> list[tuple[ForwardBatch, RegionBatch | None]]:
        """Compute a batch, or its halves if it does not fit into the GPU's memory.

        Raises:
            ConfigError: If a single image does not fit.
        """
        try:
            seen = forward.see(images, decoded, clock)
            return [(seen, clock.timed("cut", find_regions, seen, self.plan.config))]
        except torch.cuda.OutOfMemoryError as error:
            if len(images) == 1:
                raise ConfigError(
                    f"image_size: a single image does not fit into the GPU's memory ({error}); free the memory that others "
                    "use, or take a smaller network or size"
                ) from error
        torch.cuda.empty_cache()  # here, since the exception kept the batch's tensors alive
        half = -(-len(images) // 2)
        if half < forward.batch_size:
            forward.batch_size = half
            console.print(
                f"  {len(images)} images at once do not fit into the GPU's memory; going on with --batch-size {half}"
            )
        parts = (slice(None, half), slice(half, None))
        return [found for part in parts for found in self._see_and_cut(forward, images[part], decoded[part], clock)]

    def _check_access(self, unit: Unit, rows: Sequence[RegionsRow]) -> None:
        """Stop a build that has lost its images: their rows would say that they cannot be read.

        Raises:
            ImagesLostError: If more files than a few could not be opened, though they may be whole.
        """
        broken = {image.image_id for image in self.plan.images(unit) if image.stamp[0] < 0}  # links, known when listed
        lost = [row for row in rows if row.status in TRANSIENT_STATUSES and row.image_id not in broken]
        if len(lost) > max(_MOST_LOST, MOST_LOST_SHARE * unit.images):
            raise ImagesLostError(_LOST.format(len(lost), unit.images, lost[0].reason, MOST_LOST_SHARE))

    def finish(self) -> None:
        """Stop a build that has lost its images, counted over all units.

        Raises:
            ImagesLostError: If more than one file, and more than a small share, could not be opened.
        """
        lost = [unit.start + k for unit in self.units() for k in self.plan.entry(self.name, unit.file).facts["lost"]]
        images = self.plan.listing.images
        lost = [k for k in lost if images[k].stamp[0] >= 0]
        if len(lost) > max(1, MOST_LOST_SHARE * len(images)):
            raise ImagesLostError(_LOST.format(len(lost), len(images), images[lost[0]].file_name, MOST_LOST_SHARE))


@functools.cache
def _hash_of(path: Path) -> str:
    return file_hash(path)


def find_regions(seen: ForwardBatch, config: BuildConfig) -> RegionBatch | None:
    """Return the regions of a batch's readable images, or None if there are none."""
    if seen.maps is None:
        return None
    labels = torch.tensor([-1 if image.label is None else image.label for image in seen.readable])
    originals = sent(labels, seen.maps.patches.device)
    found = regions_of_maps(seen.maps, originals, [image.image_id for image in seen.readable], config)
    if seen.whole is not None:
        found["whole"] = seen.whole
    if seen.places is not None:
        found["places"] = seen.places.half()
    objects = len(LEVELS) if config.grow_original else 0
    return RegionBatch(**{name: value.cpu().numpy() for name, value in found.items()}, objects=objects)


@torch.inference_mode()
def regions_of_maps(
    maps: Maps, originals: torch.Tensor, image_ids: Sequence[str], config: BuildConfig
) -> dict[str, torch.Tensor]:
    """Return the fields of a `RegionBatch`, all on the maps' device.

    The CPU waits for the device once, in `build.ops.maskcut.unsolved`.

    Args:
        maps: The networks' maps of B images.
        originals: (B,) int64, the original classes; -1 without one.
        image_ids: The images' ids, which seed the dropping of patches.
        config: The settings.
    """
    cut = maskcut(
        maps.patches, tau=config.tau, num_regions=config.num_regions, min_area=config.min_area, max_iou=config.max_iou,
        rules=config.maskcut,
    )  # fmt: skip
    evident = evidence(maps.label_maps, config.temperature)
    peaks = find_peaks(maps.label_maps, evident, config.peaks, config.peak_score, config.temperature)
    own = cut.masks[:, :0]
    if config.grow_original:
        own = grow_object(maps.patches, maps.features[0], maps.label_maps, originals)
    grown = grow(maps.patches, peaks)
    masks = torch.cat((own, cut.masks, grown), dim=1)
    kept = torch.cat((own.flatten(2).any(2), cut.kept, grown.flatten(2).any(2)), dim=1)
    probabilities = _probabilities(maps.label_maps, masks, peaks, config)
    named = probabilities.topk(_LIKELY, dim=2) if config.classifies_places else None
    probabilities = probabilities[:, :-1]
    wanted = originals.clamp_min(0)
    alignment = probabilities.gather(2, wanted[:, None, None].expand(-1, probabilities.shape[1], 1))[..., 0]
    likeliest, likely = probabilities.topk(_LIKELY, dim=2)
    features = _described(maps.features, masks, peaks, config)
    variants = _variants(maps, masks, peaks, features[:, :-1], image_ids, config)
    without = features.new_zeros(*masks.shape[:2], 0, *features.shape[2:])
    found = {
        "masks": masks,
        "kept": kept,
        "alignment": alignment,
        "likely": likely,
        "likeliest": likeliest[..., 0],
        "elsewhere": find_elsewhere(evident, masks, likely, config.located),
        "features": features.half(),
        "variants": (torch.stack(variants, 2) if variants else without).half(),
        "passes": cut.passes.sum(1),
        "exact": cut.exact.sum(1),
    }
    if named is not None:
        found |= {"class_scores": named.values, "classes": named.indices}
    return found


def _probabilities(
    maps: Sequence[torch.Tensor], masks: torch.Tensor, peaks: Peaks, config: BuildConfig
) -> torch.Tensor:
    """Return (B, R + 1, K) probabilities, the whole image last: of mean logits, or averaged if classifying first."""
    if config.classifies_places:
        return _pooled([(values / config.temperature).softmax(dim=1) for values in maps], masks, peaks)
    return (_pooled(maps, masks, peaks) / config.temperature).softmax(dim=2)


def _described(
    maps: Sequence[torch.Tensor], masks: torch.Tensor, peaks: Peaks | None, config: BuildConfig
) -> torch.Tensor:
    """Return the regions' features, the whole image's last: (B, R + 1, D) means, or (B, R + 1, S, D) for S patches of each."""
    if config.classifies_patches:
        return pick_patches(maps[0], masks, config.region_patches)
    return _pooled(maps, masks, peaks)


def _variants(
    maps: Maps, masks: torch.Tensor, peaks: Peaks, features: torch.Tensor, image_ids: Sequence[str], config: BuildConfig
) -> list[torch.Tensor]:
    """Return the versions of the regions' features (B, R, ...) to train on; a region that left the view keeps its own."""
    if not config.augment:
        thinned = [_thinned(masks, image_ids, k, config.patch_dropout) for k in range(config.feature_variants)]
        return [_described(maps.features, m, peaks, config)[:, :-1] for m in thinned]
    out = []
    for k, (values, places) in enumerate(maps.augmented):
        there = moved(masks, places, (values.shape[2], values.shape[3]))
        there = _thinned(there, image_ids, k, config.patch_dropout)
        found = _described((values,), there, None, config)[:, :-1]
        gone = ~there.flatten(2).any(2)
        out.append(torch.where(gone.view(*gone.shape, *[1] * (features.ndim - 2)), features, found))
    return out


def _thinned(masks: torch.Tensor, image_ids: Sequence[str], version: int, share: float) -> torch.Tensor:
    """Drop a share of the patches of (B, R, h, w) masks, the same ones for an image each time; never all of a mask."""
    kept = []
    for image_id in image_ids:
        generator = torch.Generator().manual_seed(int(digest([image_id, version])[:15], 16))
        kept.append(torch.rand(masks.shape[1:], generator=generator) >= share)
    thinned = masks & sent(torch.stack(kept), masks.device)
    return torch.where(thinned.flatten(2).any(2)[..., None, None], thinned, masks)


def _pooled(maps: Sequence[torch.Tensor], masks: torch.Tensor, peaks: Peaks | None) -> torch.Tensor:
    """Return the regions' means, averaged over maps: (B, R + 1, C), the whole image last.

    The mean over a region grown from a peak averages the mean over its mask and the mean over the windows in which its
    class peaks.
    """
    found = []
    first = masks.shape[1] - (0 if peaks is None else peaks.classes.shape[1])
    for k, values in enumerate(maps):
        size = (values.shape[2], values.shape[3])
        weights = region_weights(masks, size)
        if peaks is not None:
            windows = region_weights(peaks.windows[min(k, len(peaks.windows) - 1)], size)[:, :-1]
            weights[:, first:-1] = (weights[:, first:-1] + windows) / 2
        found.append(pool(values, weights))
    return torch.stack(found).mean(dim=0)
