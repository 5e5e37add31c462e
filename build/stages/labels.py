"""Stage 3, labels: name every region, and collect the image's labels from its regions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pycocotools.mask as mask_utils
from numpy.typing import NDArray

from build.config.options import BuildConfig, digest
from build.labeler.head import Labeler, one_thread
from build.labeler.originals import OriginalTrust
from build.ops.image_labels import collect, label_beside_original, rival_of
from build.ops.naming import Ranking, best_classes, drop_duplicates, rank, trust_original
from build.ops.pooling import softmax
from build.records import LabelsRow, RegionsRow, read_rows, table_of
from build.stage import Stage
from build.state.ledger import UnitOutput
from build.state.plan import LABELER_FILE, Plan, Unit

__all__ = ["LabelsStage", "name_beside_original", "name_by_regions", "name_unlabelled"]

_CANDIDATES = 10  # candidate classes per class kept
_COLUMNS = (
    "image_id", "label", "grid", "counts", "of_original", "elsewhere", "features", "classes", "class_scores", "whole_classes",
    "whole_scores", "places",
)  # fmt: skip
_WHOLE = 20  # classes of the whole image that are read
_ELSEWHERE = 0.1  # weight of a class in a region if its evidence is elsewhere in the image


@dataclass(frozen=True)
class _Named:
    """An image's labels, whether the original label was found, each region's classes, and the regions to publish."""

    labels: Ranking
    found: bool | None
    rankings: list[Ranking]
    named: list[int]
    kept: list[int]


class LabelsStage(Stage):
    """Applies the labeler to all regions."""

    name = "labels"
    method = 3
    in_workers = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._head: Labeler | None = None
        self._confusable: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)

    def settings(self) -> dict[str, Any]:
        """Add the temperature: an option of the regions stage that this stage applies as well."""
        return {**super().settings(), "temperature": self.plan.config.temperature}

    def fingerprint(self, unit: Unit, settings: dict[str, Any]) -> str:
        """Hash the settings, the unit's regions and the labeler."""
        labeler = self.plan.hash_of("labeler", LABELER_FILE)
        return digest([settings, self.plan.hash_of("regions", unit.file), labeler])

    def compute(self, unit: Unit, advance: Callable[[int], None]) -> UnitOutput:
        """Label the images of one shard."""
        start = time.perf_counter()
        if self._head is None:
            self._head = Labeler.load(self.plan.ledger("labeler").read(LABELER_FILE))
            self._confusable = self._head.confusable(self.plan.config.confusion)
        regions = read_rows(self.plan.ledger("regions").read(unit.file), RegionsRow, *_COLUMNS)
        rows = self._rows(regions, self._head)
        advance(len(rows))
        table = table_of(rows, LabelsRow)
        seconds = {"labels": round(time.perf_counter() - start, 3)}
        facts = {
            "seconds": seconds,
            "regions": sum(len(row.kept) for row in rows),
            "rejected": sum(row.rejected for row in rows),
            "labels": sum(len(row.labels) for row in rows),
            "labelled": sum(bool(row.labels) for row in rows),
            "with_original": sum(row.found is not None for row in rows),
            "original_found": sum(bool(row.found) for row in rows),
        }
        return UnitOutput(len(rows), facts, lambda path: pq.write_table(table, path, compression="zstd"))

    def _rows(self, images: list[RegionsRow], head: Labeler) -> list[LabelsRow]:
        """Return a shard's rows; all its regions go through the labeler at once."""
        shape = self.plan.config.feature_shape(head.dimension)
        features = [np.frombuffer(row.features or b"", "<f2").reshape(-1, *shape) for row in images]
        if self.plan.config.classifies_places:
            probabilities = _dense(images, head.classes)
        else:
            with one_thread():  # a product's last bits depend on the number of threads
                probabilities = softmax(head.logits(np.concatenate(features)), self.plan.config.temperature)
        best = best_classes(probabilities, _CANDIDATES * self.plan.config.top_k)
        ends = np.cumsum([len(values) for values in features])
        parts = zip(images, np.split(probabilities, ends[:-1]), np.split(best, ends[:-1]), strict=True)
        return [self._row(row, p, order, head.trust) for row, p, order in parts]

    def _row(self, row: RegionsRow, p: NDArray[np.float32], best: NDArray[np.int64], trust: OriginalTrust) -> LabelsRow:
        """Return the record of an image, whose (R + 1, K) probabilities end with the whole image's."""
        if not len(p):
            return LabelsRow(image_id=row.image_id)
        config = self.plan.config
        if config.label_rule == "regions":
            found = name_by_regions(row, p, best, self._confusable, config)
        elif row.label is None:
            found = name_unlabelled(row, p, best, self._confusable, config)
        else:
            found = name_beside_original(row, p, best, trust, config)
        return LabelsRow(
            image_id=row.image_id,
            labels=[index for index, _ in found.labels],
            scores=[score for _, score in found.labels],
            found=found.found,
            kept=found.kept,
            rejected=len(found.rankings) - len(found.named),
            topk_labels=[[index for index, _ in ranking] for ranking in found.rankings],
            topk_scores=[[score for _, score in ranking] for ranking in found.rankings],
        )


def name_by_regions(
    row: RegionsRow,
    p: NDArray[np.float32],
    best: NDArray[np.int64],
    confusable: NDArray[np.bool_],
    config: BuildConfig,
) -> _Named:
    """Name the regions of any image, whatever its original label, and collect its labels from them.

    Only a classifier that sees the whole image adds its best class, as an option of the authors' scripts does.

    Args:
        row: The image, with R regions.
        p: (R + 1, K) probabilities, the whole image's last; these are not read.
        best: (R + 1, C), the best classes of each.
        confusable: (K, K), whether two classes are confusable.
        config: Provides `top_k`, `reject`, `label_threshold` and `merge_iou`.
    """
    found = name_unlabelled(replace(row, places=None), p[:-1], best[:-1], confusable, config, _best_of_whole(row))
    labelled = None if row.label is None else row.label in {index for index, _ in found.labels}
    return replace(found, found=labelled)


def _best_of_whole(row: RegionsRow) -> Ranking:
    """Return the best class of what saw the whole image; nothing without it."""
    if row.places is not None:  # an image without an original label
        places = np.frombuffer(row.places, "<f2")
        return [(int(places.argmax()), float(places.max()))]
    return [(row.whole_classes[0], (row.whole_scores or [])[0])] if row.whole_classes else []


def name_unlabelled(
    row: RegionsRow,
    p: NDArray[np.float32],
    best: NDArray[np.int64],
    confusable: NDArray[np.bool_],
    config: BuildConfig,
    whole: Ranking | None = None,
) -> _Named:
    """Name the regions of an image without an original label, and collect its labels from them.

    Args:
        row: The image, with R regions.
        p: (R + 1, K) probabilities, the whole image's last; (R, K) if `whole` is given.
        best: (R + 1, C) or (R, C), the best classes of each.
        confusable: (K, K), whether two classes are confusable.
        config: Provides `top_k`, `reject`, `label_threshold` and `merge_iou`.
        whole: The whole image's classes, if they are not the labeler's.
    """
    rankings = [rank(*pair, config.top_k, confusable) for pair in zip(p, best, strict=True)]
    if whole is None:
        whole = rankings.pop()
    named = [k for k, ranking in enumerate(rankings) if ranking[0][1] >= config.reject]
    opinion = None if row.places is None else np.frombuffer(row.places, "<f2")
    labels = collect([rankings[k] for k in named], whole, opinion, config.label_threshold)
    for k in _weaken_elsewhere(row, p):
        rankings[k] = rank(p[k], best_classes(p[k : k + 1], best.shape[1])[0], config.top_k, confusable)
    order = sorted(named, key=lambda k: -rankings[k][0][1])
    names = [ranking[0][0] for ranking in rankings]
    kept = drop_duplicates(_overlaps(row), order, names, config.merge_iou)
    return _Named(labels, None, rankings, named, kept)


def name_beside_original(
    row: RegionsRow, p: NDArray[np.float32], best: NDArray[np.int64], trust: OriginalTrust, config: BuildConfig
) -> _Named:
    """Name the regions of an image with an original label, knowing that somebody chose that label.

    Args:
        row: The image, with R regions.
        p: (R + 1, K) probabilities, the whole image's last.
        best: (R + 1, C), the best classes of each.
        trust: How far original labels are trusted.
        config: Provides `top_k`, `added_threshold`, `unconfirmed`, `labelled_reject` and `labelled_merge_iou`.
    """
    assert row.label is not None
    whole = _whole(row, p[-1], best[-1])
    labels, found = label_beside_original(whole, row.label, trust, config)
    least = min((score for index, score in whole.items() if index != row.label), default=0.0)
    present = np.full(p.shape[1], least, np.float32)  # no class that was left out is likelier
    present[list(whole)] = list(whole.values())
    present[row.label] = trust.score(*rival_of(whole, row.label))
    _weaken_elsewhere(row, p)
    scores, overlaps = trust_original(p[:-1], row.label, trust.odds, present), _overlaps(row)
    objects = [k for k, is_object in enumerate(row.of_original) if is_object]
    if objects:  # the first holds what the others show; they are other guesses at its extent
        first = objects[0]
        scores[first, row.label] = scores[objects, row.label].max()
        scores[objects[1:]] *= overlaps[objects[1:], first][:, None].astype(np.float32)
    rankings = [rank(*pair, config.top_k) for pair in zip(scores, best_classes(scores, config.top_k), strict=True)]
    named = [k for k, ranking in enumerate(rankings) if ranking and ranking[0][1] >= config.labelled_reject]
    order = sorted(named, key=lambda k: (k not in objects, -rankings[k][0][1] if k not in objects else k))
    return _Named(labels, found, rankings, named, drop_duplicates(overlaps, order, None, config.labelled_merge_iou))


def _whole(row: RegionsRow, p: NDArray[np.float32], best: NDArray[np.int64]) -> dict[int, float]:
    """Return the best classes of the whole image and the original one, by the ensemble or else by the labeler."""
    assert row.label is not None
    if row.whole_classes is not None:
        return dict(zip(row.whole_classes, row.whole_scores or [], strict=True))
    return {int(index): float(p[index]) for index in [*best[:_WHOLE], row.label]}


def _weaken_elsewhere(row: RegionsRow, p: NDArray[np.float32]) -> list[int]:
    """Down-weight, in place, classes whose evidence is outside the region; return the regions that have any."""
    changed = [k for k, classes in enumerate(row.elsewhere) if classes]
    for k in changed:
        p[k, row.elsewhere[k]] *= _ELSEWHERE
    return changed


def _overlaps(row: RegionsRow) -> NDArray[np.float64]:
    """Return the IoU of each two regions: (R, R)."""
    masks = [{"size": row.grid, "counts": counts.encode()} for counts in row.counts]
    found = mask_utils.iou(masks, masks, [0] * len(masks)) if masks else []
    return np.asarray(found, np.float64).reshape(len(masks), len(masks))


def _dense(images: list[RegionsRow], classes: int) -> NDArray[np.float32]:
    """Return the (n, K) probabilities of all regions; 0 for classes that were not kept."""
    best = [row for image in images for row in image.classes or ()]
    scores = [row for image in images for row in image.class_scores or ()]
    out = np.zeros((len(best), classes), np.float32)
    if best:
        np.put_along_axis(out, np.array(best, np.int64), np.array(scores, np.float32), axis=1)
    return out
