"""Find suspicious labels: rank images by how likely their labels are wrong, and compare them with their original labels.

Labels are judged by their published scores, the probability that a person would agree, or by out-of-sample predictions
of a network. How suspicious an image is depends on what is audited:

- `original`: the probability of the best other class, minus that of the original label (cleanlab's normalized margin).
  Against people's verdicts on ImageNet validation photographs, it ranked a little better than the label's probability
  alone, with scores as with a network's predictions, and far better than cleanlab's scores that adjust for classes:
  those need more than the one or two images per class that were at hand.
- `labels`: the expected number of wrong labels, which ranked these photographs better than cleanlab's multi-label score.

Suspected labels are those with a score below 0.5, or, with predictions, cleanlab's label issues: single-label ones for
original labels, and multi-label ones for new labels, because a class must not count against a label if the image shows
both. Multi-label issues need many images per class; with one or two, cleanlab finds none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.annotations.suspects import (
    ClassReport,
    JudgedLabels,
    find_multi_label_issues,
    find_single_label_issues,
    join_judged,
    judge_labels,
    report_classes,
)
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.names import image_id_of

__all__ = [
    "AUDITED",
    "VERDICTS",
    "Audit",
    "Audited",
    "AuditedImages",
    "Chunks",
    "Finding",
    "audit",
    "find_rows",
    "verdict_of",
]

Audited = Literal["original", "labels"]
# returns chunks of rows (n,) and of probabilities (n, K), each row at most once; called several times
Chunks = Callable[[], Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]]
AUDITED = ("original", "labels")
VERDICTS = {
    "agrees": "the original label has the best score",
    "weaker": "the original label was seen, but another class has a better score",
    "replaced": "the original label was not seen, but another class clearly was",
    "unseen": "the original label was not seen, and neither was any other class clearly",
    "unlabelled": "the image has no original label",
}
_SEEN = 0.1  # minimum probability of a class that counts as seen
_LIKELY = 0.5  # of one that counts as clearly seen: it is more likely there than not
_CHUNK = 4096  # images whose dense scores are in memory at once: 16 MB


@dataclass(frozen=True)
class Finding:
    """Audit result of one image. Scores are the published ones, or the predictions' probabilities.

    Attributes:
        image_id: The image's id.
        row: The image's row.
        quality: Label quality in [0, 1]; low for labels that are likely wrong.
        suspected: Whether an audited label is suspected.
        verdict: A key of VERDICTS.
        original: Original class, or None.
        original_score: Score of the original class; 0 if it was not seen at all.
        best: Class with the best score; None if no class has one.
        best_score: Score of the best class.
        labels: (class, published score) pairs, best first.
    """

    image_id: str
    row: int
    quality: float
    suspected: bool
    verdict: str
    original: int | None
    original_score: float
    best: int | None
    best_score: float
    labels: tuple[tuple[int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class AuditedImages:
    """Columns of N images.

    Attributes:
        row: (N,) int64.
        original: (N,) int64, original class; -1 for none.
        original_score: (N,) float32, its score; 0 if it was not seen at all.
        best: (N,) int64, class with the best score; -1 if no class has one.
        best_score: (N,) float32, its score.
    """

    row: NDArray[np.int64]
    original: NDArray[np.int64]
    original_score: NDArray[np.float32]
    best: NDArray[np.int64]
    best_score: NDArray[np.float32]


@dataclass(frozen=True)
class Audit:
    """Audit result of a split. The N audited images are ordered, most suspicious first.

    Attributes:
        images: The audited images.
        read: Number of images read, including those without labels to audit.
        quality: (N,) float32 in [0, 1].
        suspected: (N,) bool, whether an audited label of the image is suspected.
        verdicts: Their N verdicts.
        classes: A report on each class among the audited labels, those with the most wrong labels first.
    """

    images: AuditedImages
    read: int
    quality: NDArray[np.float32]
    suspected: NDArray[np.bool_]
    verdicts: list[str]
    classes: list[ClassReport]

    def counts(self) -> Counter[str]:
        """Return the number of images per verdict."""
        return Counter(self.verdicts)

    def findings(self, store: AnnotationStore, top: int, verdict: str | None = None) -> list[Finding]:
        """Return the `top` most suspicious images, only those with this verdict if it is given."""
        places = [k for k, name in enumerate(self.verdicts) if verdict in (None, name)][:top]
        return [self._finding(store, k) for k in places]

    def _finding(self, store: AnnotationStore, k: int) -> Finding:
        images, row = self.images, int(self.images.row[k])
        record, best = store.record(row), int(images.best[k])
        return Finding(
            record.image_id, row, float(self.quality[k]), bool(self.suspected[k]), self.verdicts[k], record.label,
            float(images.original_score[k]), None if best < 0 else best, float(images.best_score[k]), record.labels,
        )  # fmt: skip


def audit(
    store: AnnotationStore,
    *,
    of: Audited = "original",
    predictions: Chunks | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> Audit:
    """Judge the images that have labels to audit.

    Memory holds one chunk of probabilities at a time, and a few hundred bytes per image.

    Args:
        store: The annotations.
        of: Labels to audit: `original` for the original label, `labels` for the new labels.
        predictions: Out-of-sample probabilities of rows, for example from `mlimagenet_data.evaluate.predictions`. The
            network must not have been trained on these images. None judges by the published scores.
        advance: Called with the number of images read since the last call.

    Raises:
        ModuleNotFoundError: With predictions, if cleanlab is not installed; the message states how to install it.
    """
    images, parts, sizes, sums = [], [], [], np.zeros(NUM_CLASSES, np.float64)
    for rows, records, probabilities in _chunks(store, predictions):
        images.append(_look_up(rows, records, probabilities))
        parts.append(judge_labels(*_audited(records, of), probabilities))
        sizes.append(len(rows))
        sums += probabilities.sum(axis=0, dtype=np.float64)
        advance(len(rows))
    judged = join_judged(parts, sizes)
    if predictions is None:
        suspected = judged.probability < _LIKELY
    elif of == "labels":
        suspected = find_multi_label_issues(judged, sums, sum(sizes))
    else:
        suspected = find_single_label_issues(lambda: _labelled(parts, predictions()), NUM_CLASSES)
    return _ranked(_joined(images), judged, suspected, of)


def find_rows(store: AnnotationStore, files: Sequence[str]) -> NDArray[np.int64]:
    """Return the row of each file by `mlimagenet_data.names.join_key`: (N,), -1 for files that match no row."""
    rows = np.full(len(files), -1, np.int64)
    for k, file in enumerate(files):
        try:
            rows[k] = store.find(image_id_of(file))
        except KeyError:
            continue
    return rows


def verdict_of(record: Record) -> str:
    """Return the key of VERDICTS that compares an image's original label with its published scores."""
    scores = dict(record.labels)
    original = -1 if record.label is None else record.label
    return _verdict(original, scores.get(original, 0.0), max(scores.values(), default=0.0))


def _verdict(original: int, score: float, best_score: float) -> str:
    if original < 0:
        return "unlabelled"
    if score >= _SEEN:
        return "agrees" if score >= best_score else "weaker"
    return "replaced" if best_score >= _LIKELY else "unseen"


def _chunks(
    store: AnnotationStore, predictions: Chunks | None
) -> Iterator[tuple[NDArray[np.int64], list[Record], NDArray[np.float32]]]:
    """Yield rows, their records and their probabilities; without predictions, those of the published scores."""
    if predictions is not None:
        for rows, probabilities in predictions():
            yield rows, [store.record(row) for row in rows.tolist()], probabilities
        return
    usable = store.usable_rows()
    for start in range(0, len(usable), _CHUNK):
        rows = usable[start : start + _CHUNK]
        records = [store.record(row) for row in rows.tolist()]
        yield rows, records, _published(records)


def _published(records: Sequence[Record]) -> NDArray[np.float32]:
    """Return the published scores of each image as (n, K), 0 for classes that are not among its labels."""
    out = np.zeros((len(records), NUM_CLASSES), np.float32)
    for scores, record in zip(out, records, strict=True):
        for label, score in record.labels:
            scores[label] = score
    return out


def _audited(records: Sequence[Record], of: Audited) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image and the class of each label to audit."""
    if of == "original":
        pairs = [(k, record.label) for k, record in enumerate(records) if record.label is not None]
    else:
        pairs = [(k, label) for k, record in enumerate(records) for label, _ in record.labels]
    image, label = np.array(pairs, np.int64).reshape(-1, 2).T
    return image, label


def _look_up(rows: NDArray[np.int64], records: Sequence[Record], probabilities: NDArray[np.float32]) -> AuditedImages:
    original = np.array([-1 if record.label is None else record.label for record in records], np.int64)
    each, best = np.arange(len(rows)), probabilities.argmax(axis=1)
    score, best_score = probabilities[each, original], probabilities[each, best]
    score[original < 0] = 0
    return AuditedImages(rows, original, score, np.where(best_score > 0, best, -1), best_score)


def _labelled(
    parts: Sequence[JudgedLabels], chunks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for part, (_, probabilities) in zip(parts, chunks, strict=True):
        if len(part):
            yield part.label, probabilities[part.image]


def _joined(images: Sequence[AuditedImages]) -> AuditedImages:
    kinds = {
        "row": np.int64, "original": np.int64, "original_score": np.float32, "best": np.int64, "best_score": np.float32,
    }  # fmt: skip
    return AuditedImages(
        **{k: np.concatenate([np.zeros(0, kind), *(getattr(part, k) for part in images)]) for k, kind in kinds.items()}
    )


def _ranked(images: AuditedImages, judged: JudgedLabels, suspected: NDArray[np.bool_], of: Audited) -> Audit:
    count = len(images.row)
    if of == "original":
        quality = np.zeros(count, np.float32)
        quality[judged.image] = judged.margin_quality
    else:  # the probability of no wrong label if their number is Poisson distributed
        quality = np.exp(-np.bincount(judged.image, judged.wrong, count)).astype(np.float32)
    kept = np.unique(judged.image)
    order = kept[np.lexsort((images.row[kept], quality[kept]))]
    ranked = AuditedImages(**{name: column[order] for name, column in vars(images).items()})
    columns = (ranked.original.tolist(), ranked.original_score.tolist(), ranked.best_score.tolist())
    verdicts = [_verdict(*values) for values in zip(*columns, strict=True)]
    flagged = np.bincount(judged.image, suspected, count)[order] > 0
    return Audit(ranked, count, quality[order], flagged, verdicts, report_classes(judged, suspected))
