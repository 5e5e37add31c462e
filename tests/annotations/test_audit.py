import sys

import numpy as np
import pytest

from mlimagenet_data.annotations import audit as module
from mlimagenet_data.annotations.audit import VERDICTS, audit, find_rows, verdict_of
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from tests.support.annotated import random_rows, region, row, write_rows

MASK = np.ones((2, 2), bool)


def store_of(tmp_path):
    rows = [
        row("sure", (4, 4), [region(MASK, 5, 0.95)], label=5),
        row("weaker", (4, 4), [region(MASK, 6, 0.9), region(MASK, 5, 0.4)], label=5),
        row("replaced", (4, 4), [region(MASK, 6, 0.97)], label=5, labels=[(6, 0.97), (5, 0.01)]),
        row("unseen", (4, 4), [region(MASK, 6, 0.2)], label=5, labels=[(6, 0.2), (5, 0.01)]),
        row("missing", (4, 4), [region(MASK, 6, 0.5, [(5, 0.3)])], label=5, labels=[(6, 0.5)]),
        row("none", (4, 4), [region(MASK, 6, 0.9)], label=5),
        row("broken", (4, 4), [], label=5, status="unreadable"),
    ]
    rows[5]["label"] = None
    return AnnotationStore(write_rows(tmp_path, rows), "train")


def planted_store(tmp_path, images=300, classes=6):
    """A store whose published scores say nothing, probabilities of its rows, and the rows with a wrong original."""
    generator = np.random.default_rng(5)
    true = np.arange(images) % classes
    wrong = np.flatnonzero(generator.random(images) < 0.1)
    label = true.copy()
    label[wrong] = (true[wrong] + 1 + generator.integers(0, classes - 1, len(wrong))) % classes
    rows = [row(f"i{k}", (4, 4), [], label=int(c), labels=[(int(c), 0.9)]) for k, c in enumerate(label)]
    probabilities = generator.uniform(0, 0.1, (images, NUM_CLASSES)).astype(np.float32)
    probabilities[np.arange(images), true] = generator.uniform(0.6, 0.9, images)
    return AnnotationStore(write_rows(tmp_path, rows), "train"), probabilities, wrong


def chunks_of(probabilities, size):
    """Chunks of probabilities, in reverse order of the rows."""
    rows = np.arange(len(probabilities))[::-1]
    return lambda: [(rows[k : k + size], probabilities[rows[k : k + size]]) for k in range(0, len(rows), size)]


def names(findings):
    return [finding.image_id.split("/")[1] for finding in findings]


def test_images_are_ranked_and_judged_by_their_original_label(tmp_path):
    store = store_of(tmp_path)
    result = audit(store)
    findings = result.findings(store, 9)
    assert names(findings) == ["replaced", "weaker", "missing", "unseen", "sure"]
    assert [f.quality for f in findings] == pytest.approx([0.02, 0.25, 0.25, 0.405, 0.975])
    assert [f.verdict for f in findings] == ["replaced", "weaker", "replaced", "unseen", "agrees"]
    assert [f.suspected for f in findings] == [True, True, True, True, False]
    worst = findings[0]
    assert (worst.original, worst.best) == (5, 6)
    assert (worst.original_score, worst.best_score) == (pytest.approx(0.01), pytest.approx(0.97))
    assert names(result.findings(store, 1, "replaced")) == ["replaced"]
    assert result.counts() == {"replaced": 2, "weaker": 1, "unseen": 1, "agrees": 1}
    assert set(result.counts()) < set(VERDICTS)
    assert result.read == 6


def test_new_labels_can_be_audited_instead(tmp_path):
    store = store_of(tmp_path)
    findings = audit(store, of="labels").findings(store, 9)
    wrong = {"sure": 0.05, "weaker": 0.7, "replaced": 1.02, "unseen": 1.79, "missing": 0.5, "none": 0.1}
    assert names(findings) == sorted(wrong, key=lambda name: -wrong[name])
    assert [f.quality for f in findings] == pytest.approx([np.exp(-wrong[name]) for name in names(findings)])
    assert next(f for f in findings if f.image_id.endswith("none")).verdict == "unlabelled"


def test_regions_do_not_count(tmp_path):
    store = store_of(tmp_path)
    missing = next(f for f in audit(store).findings(store, 9) if f.image_id.endswith("missing"))
    assert missing.original_score == 0
    assert verdict_of(store.record(4)) == "replaced"


def test_classes_are_reported(tmp_path):
    (report,) = audit(store_of(tmp_path)).classes
    assert (report.label, report.images, report.suspected, report.instead, report.instead_images) == (5, 5, 4, 6, 4)
    assert report.wrong == pytest.approx(0.05 + 0.6 + 0.99 + 0.99 + 1)


def test_one_image_has_the_verdict_of_the_audit(tmp_path):
    rows = random_rows(40, seed=4)
    rows[3]["label"] = None
    store = AnnotationStore(write_rows(tmp_path, rows), "train")
    for of in ("original", "labels"):
        for finding in audit(store, of=of).findings(store, 40):
            assert finding.verdict == verdict_of(store.record(finding.row))


@pytest.mark.parametrize("of", ["original", "labels"])
def test_planted_wrong_labels_come_first_by_predictions(tmp_path, of):
    store, probabilities, wrong = planted_store(tmp_path)
    result = audit(store, of=of, predictions=chunks_of(probabilities, 1000))
    found = [f.row for f in result.findings(store, len(wrong))]
    assert set(found) == set(wrong.tolist())
    assert result.suspected[: len(wrong)].sum() >= len(wrong) / 3
    assert not result.suspected[len(wrong) :].any()


@pytest.mark.parametrize("of", ["original", "labels"])
def test_chunks_change_nothing(tmp_path, monkeypatch, of):
    store, probabilities, _ = planted_store(tmp_path)
    whole = audit(store, of=of, predictions=chunks_of(probabilities, 1000))
    parts = audit(store, of=of, predictions=chunks_of(probabilities, 37))
    assert parts.findings(store, 300) == whole.findings(store, 300)
    assert parts.classes == whole.classes
    plain = audit(store, of=of)
    monkeypatch.setattr(module, "_CHUNK", 37)
    assert audit(store, of=of).findings(store, 300) == plain.findings(store, 300)


def test_only_predicted_rows_are_audited(tmp_path):
    store, probabilities, _ = planted_store(tmp_path)
    result = audit(store, predictions=lambda: [(np.array([7, 3]), probabilities[[7, 3]])])
    assert result.read == 2
    assert {f.row for f in result.findings(store, 9)} == {3, 7}


def test_an_empty_split_has_no_findings(tmp_path):
    store = AnnotationStore(write_rows(tmp_path, [row("broken", (4, 4), [], status="unreadable")]), "train")
    result = audit(store)
    assert (result.findings(store, 9), result.classes, result.read) == ([], [], 0)
    assert audit(store, predictions=lambda: []).findings(store, 9) == []


def test_files_are_joined_to_rows_whatever_their_copy_names_them(tmp_path):
    rows = [row(f"ILSVRC2012_val_0000000{k}", (4, 4), [], label=k) for k in range(3)]
    store = AnnotationStore(write_rows(tmp_path, rows), "train")
    files = ["ILSVRC2012_val_00000002.JPEG", "other.png", "0/ILSVRC2012_val_00000000_n01440764.jpg"]
    assert find_rows(store, files).tolist() == [2, -1, 0]


def test_cleanlab_is_needed_only_with_predictions(tmp_path, monkeypatch):
    for name in ("cleanlab", "cleanlab.count", "cleanlab.experimental.label_issues_batched"):
        monkeypatch.setitem(sys.modules, name, None)
    store, probabilities, _ = planted_store(tmp_path)
    assert audit(store).read == 300
    with pytest.raises(ModuleNotFoundError, match=r"mlimagenet-data\[audit\]"):
        audit(store, predictions=chunks_of(probabilities, 1000))
