"""Finds suspicious labels: images are ranked by cleanlab's label quality, and compared with their original labels.

Quality is cleanlab's multi-label score (Thyagarajan et al., "Identifying Incorrect Annotations in Multi-Label Classification
Data", arXiv 2211.13895). What it takes for a classifier's probabilities are the annotations' own scores: of a class the best over
the image's labels and the regions' top-k classes, 0 for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlimagenet_data.annotations.records import Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES

__all__ = ["AUDITED", "VERDICTS", "Finding", "audit", "verdict_of"]

Audited = Literal["original", "labels"]
AUDITED = ("original", "labels")
VERDICTS = {
    "agrees": "the original label has the best score",
    "weaker": "the original label is among the labels, and another one has a better score",
    "replaced": "the original label is not seen, something else clearly is",
    "unseen": "the original label is not seen, nor clearly anything else",
    "unlabelled": "there is no original label",
}
_CLEAR = 0.5  # score from which on something is clearly seen
_CHUNK = 4096  # images whose dense probabilities are in memory at a time: 33 MB


@dataclass(frozen=True)
class Finding:
    """One image's audit.

    Attributes:
        image_id: The image.
        row: Its row.
        quality: In [0, 1]; low for labels that are likely wrong.
        verdict: A key of VERDICTS.
        original: Its original class, or None.
        original_score: The score of that class, 0 where nothing saw it.
        best: The class with the best score, None without labels.
        best_score: Its score.
        labels: (class, score) pairs, best first.
    """

    image_id: str
    row: int
    quality: float
    verdict: str
    original: int | None
    original_score: float
    best: int | None
    best_score: float
    labels: tuple[tuple[int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return all values."""
        return asdict(self)


def audit(store: AnnotationStore, *, of: Audited = "original", seen: float = 0.1) -> list[Finding]:
    """Return all images that have labels to audit, the most suspicious first.

    Args:
        store: The annotations.
        of: `original`: how well the original label fits what was seen; `labels`: how well the new labels do.
        seen: Score from which on the original label counts as seen.

    Raises:
        ModuleNotFoundError: If cleanlab is not installed; the message says how.
    """
    findings: list[Finding] = []
    for part in _chunks(store):
        rows = [(row, record) for row, record in part if _audited(record, of)]
        if not rows:
            continue
        probabilities = np.stack([_probabilities(record) for _, record in rows])
        qualities = _quality([_audited(record, of) for _, record in rows], probabilities)
        findings += [
            _finding(row, record, p, float(quality), seen)
            for (row, record), p, quality in zip(rows, probabilities, qualities, strict=True)
        ]
    return sorted(findings, key=lambda finding: (finding.quality, finding.row))


def _chunks(store: AnnotationStore) -> Iterator[list[tuple[int, Record]]]:
    rows = store.usable_rows()
    for start in range(0, len(rows), _CHUNK):
        yield [(int(row), store.record(int(row))) for row in rows[start : start + _CHUNK]]


def _audited(record: Record, of: Audited) -> list[int]:
    if of == "original":
        return [] if record.label is None else [record.label]
    return [index for index, _ in record.labels]


def _probabilities(record: Record) -> NDArray[np.float32]:
    out = np.zeros(NUM_CLASSES, np.float32)
    for index, score in (*record.labels, *zip(record.topk_class, record.topk_score, strict=True)):
        out[index] = max(out[index], score)
    return out


def _quality(labels: list[list[int]], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    try:
        from cleanlab.multilabel_classification import get_label_quality_scores
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("auditing needs cleanlab: pip install 'mlimagenet-data[audit]'") from error
    return np.asarray(get_label_quality_scores(labels, probabilities), np.float64)


def _finding(row: int, record: Record, p: NDArray[np.float32], quality: float, seen: float) -> Finding:
    best = int(p.argmax()) if p.any() else None
    best_score = 0.0 if best is None else float(p[best])
    original_score = 0.0 if record.label is None else float(p[record.label])
    verdict = _judge(record.label, p, seen)
    return Finding(
        record.image_id, row, quality, verdict, record.label, original_score, best, best_score, record.labels
    )


def verdict_of(record: Record, *, seen: float = 0.1) -> str:
    """Return the key of VERDICTS that says how an image's original label and its new ones go together.

    Args:
        record: The image's annotations.
        seen: Score from which on the original label counts as seen.
    """
    return _judge(record.label, _probabilities(record), seen)


def _judge(original: int | None, p: NDArray[np.float32], seen: float) -> str:
    if original is None:
        return "unlabelled"
    if float(p[original]) >= seen:
        return "agrees" if p.argmax() == original else "weaker"
    return "replaced" if float(p.max()) >= _CLEAR else "unseen"
