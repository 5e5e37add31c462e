"""Stage 3, labels: name every region, and collect the image's labels from its regions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pycocotools.mask as mask_utils
from numpy.typing import NDArray

from build.config.options import BuildConfig, digest
from build.labeler.head import Labeler, one_thread
from build.ops.pooling import softmax
from build.records import LabelsRow, RegionsRow, read_rows, table_of
from build.stage import Stage
from build.state.ledger import UnitOutput
from build.state.plan import LABELER_FILE, Plan, Unit

__all__ = ["LabelsStage", "aggregate", "choose_beside_original", "drop_duplicates"]

_CANDIDATES = 10  # candidate classes per class kept
_COLUMNS = (
    "image_id", "label", "grid", "counts", "elsewhere", "features", "classes", "class_scores", "whole_classes", "whole_scores",
)  # fmt: skip
_ELSEWHERE = 0.1  # weight of a class in a region if its evidence is elsewhere in the image

Ranking = list[tuple[int, float]]  # (class, score), best first


class LabelsStage(Stage):
    """Applies the labeler to all regions."""

    name = "labels"
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
            self._head = Labeler.load(self.plan.ledger("labeler").fetched(LABELER_FILE))
            self._confusable = self._head.confusable(self.plan.config.confusion)
        regions = read_rows(self.plan.ledger("regions").fetched(unit.file), RegionsRow, *_COLUMNS)
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
        features = [np.frombuffer(row.features or b"", "<f2").reshape(-1, head.dimension) for row in images]
        if self.plan.config.classify_first:
            probabilities = _dense(images, head.classes)
        else:
            with one_thread():  # a product's last bits depend on the number of threads
                probabilities = softmax(head.logits(np.concatenate(features)), self.plan.config.temperature)
        best = _best(probabilities, _CANDIDATES * self.plan.config.top_k)
        ends = np.cumsum([len(values) for values in features])
        parts = zip(images, np.split(probabilities, ends[:-1]), np.split(best, ends[:-1]), strict=True)
        return [self._name(row, p, order) for row, p, order in parts]

    def _name(self, row: RegionsRow, p: NDArray[np.float32], best: NDArray[np.int64]) -> LabelsRow:
        """Return the record of an image, whose (R + 1, K) probabilities end with the whole image's."""
        if not len(p):
            return LabelsRow(image_id=row.image_id)
        config = self.plan.config
        rankings = [_top(*pair, config.top_k, self._confusable) for pair in zip(p, best, strict=True)]
        named = [k for k, ranking in enumerate(rankings[:-1]) if ranking[0][1] >= config.reject]
        found: bool | None
        if row.label is not None and row.whole_classes is not None:
            labels, found = choose_beside_original(row, config)
        else:
            labels, found = aggregate([rankings[k] for k in named], rankings[-1], p[-1], row.label, config)
        for k, classes in enumerate(row.elsewhere):
            if classes:
                p[k, classes] *= _ELSEWHERE
                rankings[k] = _top(p[k], _best(p[k : k + 1], best.shape[1])[0], config.top_k, self._confusable)
        return LabelsRow(
            image_id=row.image_id,
            labels=[index for index, _ in labels],
            scores=[score for _, score in labels],
            found=found,
            kept=drop_duplicates(row.counts, row.grid or [], rankings[:-1], named, config.merge_iou),
            rejected=len(rankings) - 1 - len(named),
            topk_labels=[[index for index, _ in ranking] for ranking in rankings[:-1]],
            topk_scores=[[score for _, score in ranking] for ranking in rankings[:-1]],
        )


def _dense(images: list[RegionsRow], classes: int) -> NDArray[np.float32]:
    """Return the (n, K) probabilities of all regions; 0 for classes that were not kept."""
    best = [row for image in images for row in image.classes or ()]
    scores = [row for image in images for row in image.class_scores or ()]
    out = np.zeros((len(best), classes), np.float32)
    if best:
        np.put_along_axis(out, np.array(best, np.int64), np.array(scores, np.float32), axis=1)
    return out


def drop_duplicates(
    counts: list[str], grid: list[int], rankings: list[Ranking], named: list[int], merge_iou: float
) -> list[int]:
    """Return which of the named regions to publish, in order: of duplicates, the best-scored one.

    Args:
        counts: COCO RLE of each region's mask.
        grid: (gh, gw) of the masks.
        rankings: Each region's classes, best first.
        named: Positions of the regions to choose from.
        merge_iou: Regions with the same best class are duplicates if their IoU is at least this.
    """
    kept: list[int] = []
    for k in sorted(named, key=lambda k: -rankings[k][0][1]):
        same = [{"size": grid, "counts": counts[j].encode()} for j in kept if rankings[j][0][0] == rankings[k][0][0]]
        one = {"size": grid, "counts": counts[k].encode()}
        if not same or mask_utils.iou([one], same, [0] * len(same)).max() < merge_iou:
            kept.append(k)
    return sorted(kept)


def _best(probabilities: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the best classes of each row of (n, K), with equal scores in class order: (n, count)."""
    count = min(count, probabilities.shape[1])
    places = np.sort(np.argpartition(-probabilities, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(probabilities, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def _top(
    probabilities: NDArray[np.float32], best: NDArray[np.int64], count: int, confusable: NDArray[np.bool_]
) -> Ranking:
    """Return the best classes, without scores of 0 (underflow).

    Each class absorbs the scores of the worse classes that are confusable with it, which are then not named themselves.

    Args:
        probabilities: (K,).
        best: The candidates, best first.
        count: Number of classes to return.
        confusable: (K, K), whether two classes are confusable.
    """
    free = np.ones(len(probabilities), np.bool_)
    out: Ranking = []
    for index in best:
        if len(out) == count or probabilities[index] <= 0:
            break
        if free[index]:
            group = confusable[index] & free
            out.append((int(index), min(1.0, float(probabilities[group].sum()))))
            free &= ~confusable[index]
    return sorted(out, key=lambda item: (-item[1], item[0]))


def choose_beside_original(row: RegionsRow, config: BuildConfig) -> tuple[Ranking, bool]:
    """Choose the labels of an image with an original label from what the ensemble sees in the whole image.

    Regions do not add labels here: the largest of many regions' scores is far too sure, and most photographs that were
    collected for one class show only that class. Regions still say where a label's object is.

    Args:
        row: The image, with `whole_classes` and `whole_scores`.
        config: Provides `label_threshold`, `added_threshold` and `unconfirmed`.

    Returns:
        As `aggregate`.
    """
    scores = dict(zip(row.whole_classes or [], row.whole_scores or [], strict=True))
    own = max(scores.get(row.label, 0.0) if row.label is not None else 0.0, float(np.finfo(np.float32).tiny))
    added = max(config.label_threshold, config.added_threshold)
    labels = {index: score for index, score in scores.items() if score >= added and index != row.label}
    found = own >= config.label_threshold
    if row.label is not None and (found or config.unconfirmed == "keep"):
        labels[row.label] = own
    return sorted(labels.items(), key=lambda item: (-item[1], item[0])), found


def aggregate(
    regions: list[Ranking],
    whole: Ranking,
    whole_probabilities: NDArray[np.float32],
    original: int | None,
    config: BuildConfig,
) -> tuple[Ranking, bool | None]:
    """Collect an image's labels.

    Args:
        regions: The regions' best classes.
        whole: The whole image's best classes.
        whole_probabilities: (K,), for the score of an original label that has to be added.
        original: The original label, or None.
        config: Provides `label_threshold`, `added_threshold` and `unconfirmed`.

    Returns:
        The labels, best first, each with its best score over the regions and the whole image. All scores reach their
        threshold, except that of an original label that had to be added. And whether the original label was found
        before it was added (None without one).
    """
    best: dict[int, float] = {}
    for ranking in [*regions, whole]:
        for index, score in ranking:
            best[index] = max(best.get(index, 0.0), score)
    added = config.label_threshold if original is None else max(config.label_threshold, config.added_threshold)
    labels = {
        index: score
        for index, score in best.items()
        if score >= (config.label_threshold if index == original else added)
    }
    found = None if original is None else original in labels
    if original is not None and not found and config.unconfirmed == "keep":
        smallest = float(np.finfo(np.float32).tiny)  # a score is never 0
        labels[original] = max(best.get(original, 0.0), float(whole_probabilities[original]), smallest)
    return sorted(labels.items(), key=lambda item: (-item[1], item[0])), found
