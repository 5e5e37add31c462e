import sys

import numpy as np
import pytest

from mlimagenet_data.annotations.audit import VERDICTS, _probabilities, audit
from mlimagenet_data.annotations.store import AnnotationStore
from tests.support.annotated import region, row, write_rows

MASK = np.ones((2, 2), bool)


def store_of(tmp_path):
    rows = [
        row("sure", (4, 4), [region(MASK, 5, 0.95)], label=5),
        row("weaker", (4, 4), [region(MASK, 6, 0.9), region(MASK, 5, 0.4)], label=5),
        row("replaced", (4, 4), [region(MASK, 6, 0.97)], label=5, labels=[(6, 0.97), (5, 0.01)]),
        row("unseen", (4, 4), [region(MASK, 6, 0.2)], label=5, labels=[(6, 0.2), (5, 0.01)]),
        row("topk", (4, 4), [region(MASK, 6, 0.5, [(5, 0.3)])], label=5, labels=[(6, 0.5)]),
        row("none", (4, 4), [region(MASK, 6, 0.9)], label=5),
        row("broken", (4, 4), [], label=5, status="unreadable"),
    ]
    rows[5]["label"] = None
    return AnnotationStore(write_rows(tmp_path, rows), "train")


def test_images_are_ranked_and_judged_by_their_original_label(tmp_path):
    findings = audit(store_of(tmp_path))
    assert [f.quality for f in findings] == sorted(f.quality for f in findings)
    verdicts = {f.image_id.split("/")[1]: f.verdict for f in findings}
    assert verdicts == {
        "sure": "agrees", "weaker": "weaker", "replaced": "replaced", "unseen": "unseen", "topk": "weaker",
    }  # fmt: skip
    assert findings[0].image_id.endswith("replaced")
    assert findings[-1].image_id.endswith("sure")
    worst = findings[0]
    assert (worst.original, worst.best) == (5, 6)
    assert (worst.original_score, worst.best_score) == (pytest.approx(0.01), pytest.approx(0.97))
    assert set(verdicts.values()) < set(VERDICTS)


def test_new_labels_can_be_audited_instead(tmp_path):
    findings = audit(store_of(tmp_path), of="labels")
    assert {f.image_id.split("/")[1] for f in findings} == {"sure", "weaker", "replaced", "unseen", "topk", "none"}
    assert next(f for f in findings if f.image_id.endswith("none")).verdict == "unlabelled"
    quality = {f.image_id.split("/")[1]: f.quality for f in findings}
    assert quality["unseen"] < quality["sure"]


def test_a_class_has_its_best_score_over_labels_and_regions(tmp_path):
    store = store_of(tmp_path)
    p = _probabilities(store.record(4))
    assert p[[5, 6]] == pytest.approx([0.3, 0.5])
    assert np.count_nonzero(p) == 2


def test_without_cleanlab_the_error_states_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.multilabel_classification", None)
    with pytest.raises(ModuleNotFoundError, match=r"mlimagenet-data\[audit\]"):
        audit(store_of(tmp_path))
