"""Find suspicious labels: rank images by cleanlab's label quality and compare their labels with the original ones.

Quality is cleanlab's multi-label score (Thyagarajan et al., "Identifying Incorrect Annotations in Multi-Label
Classification Data", arXiv 2211.13895). The annotations' own scores stand in for a classifier's probabilities: each
class gets its best score among the image's labels and the regions' top-k classes, 0 if it is in neither.
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
    "weaker": "the original label was seen, but another class has a better score",
    "replaced": "the original label was not seen, but another class clearly was",
    "unseen": "the original label was not seen, and neither was any other class clearly",
    "unlabelled": "the image has no original label",
}
_CLEAR = 0.5  # minimum score of a clearly seen class
_CHUNK = 4096  # images whose dense probabilities are in memory at once: 33 MB


@dataclass(frozen=True)
class Finding:
    """Audit result of one image.

    Attributes:
        image_id: The image's id.
        row: The image's row.
        quality: Label quality in [0, 1]; low for labels that are likely wrong.
        verdict: A key of VERDICTS.
        original: Original class, or None.
        original_score: Score of the original class; 0 if it was not seen at all.
        best: Class with the best score; None without labels.
        best_score: Score of the best class.
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
        """Return the fields as a dictionary."""
        return asdict(self)


def audit(store: AnnotationStore, *, of: Audited = "original", seen: float = 0.1) -> list[Finding]:
    """Return a finding per image that has labels to audit, most suspicious first.

    Args:
        store: The annotations.
        of: Labels to audit: `original` for the original label, `labels` for the new labels.
        seen: Minimum score for the original label to count as seen.

    Raises:
        ModuleNotFoundError: If cleanlab is not installed; the message states how to install it.
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
        raise ModuleNotFoundError("auditing requires cleanlab; run pip install 'mlimagenet-data[audit]'") from error
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
    """Return the key of VERDICTS that compares an image's original label with its new labels.

    Args:
        record: The image's annotations.
        seen: Minimum score for the original label to count as seen.
    """
    return _judge(record.label, _probabilities(record), seen)


def _judge(original: int | None, p: NDArray[np.float32], seen: float) -> str:
    if original is None:
        return "unlabelled"
    if float(p[original]) >= seen:
        return "agrees" if p.argmax() == original else "weaker"
    return "replaced" if float(p.max()) >= _CLEAR else "unseen"
