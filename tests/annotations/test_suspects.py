import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from mlimagenet_data.annotations.suspects import (
    ClassReport,
    find_multi_label_issues,
    find_single_label_issues,
    join_judged,
    judge_labels,
    report_classes,
)

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.0, 0.4, 0.0]], np.float32)


def judged_of(pairs, probabilities=PROBABILITIES):
    image, label = np.array(pairs, np.int64).reshape(-1, 2).T
    return judge_labels(image, label, probabilities)


def planted(images, classes, seed, share=0.1):
    """Labels (N,), probabilities (N, K), and which labels are wrong (N,)."""
    generator = np.random.default_rng(seed)
    true = np.arange(images) % classes
    wrong = generator.random(images) < share
    label = np.where(wrong, (true + generator.integers(1, classes, images)) % classes, true)
    logits = generator.normal(size=(images, classes))
    logits[np.arange(images), true] += generator.normal(4, 1, images)
    weights = np.exp(logits)
    return label, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), wrong


def in_chunks(label, probabilities, size):
    return lambda: ((label[k : k + size], probabilities[k : k + size]) for k in range(0, len(label), size))


def test_a_label_is_judged_beside_the_best_other_class():
    judged = judged_of([(0, 0), (0, 1), (1, 2), (1, 0), (2, 1), (2, 0)])
    assert judged.probability == pytest.approx([0.7, 0.2, 0.6, 0.1, 0.4, 0.0])
    assert judged.other.tolist() == [1, 0, 1, 2, -1, 1]
    assert judged.other_probability == pytest.approx([0.2, 0.7, 0.3, 0.6, 0.0, 0.4])
    assert judged.margin_quality == pytest.approx([0.75, 0.25, 0.65, 0.25, 0.7, 0.3])
    assert judged.wrong == pytest.approx([0.3, 0.8, 0.4, 0.9, 0.6, 1.0])


@given(
    st_numpy.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(0, 1, width=32)),
    st.data(),
)
def test_judging_equals_a_loop_over_labels(probabilities, data):
    count, classes = probabilities.shape
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, classes - 1)), max_size=8))
    judged = judged_of(pairs, probabilities)
    for k, (image, label) in enumerate(pairs):
        others = {c: p for c, p in enumerate(probabilities[image].tolist()) if c != label}
        assert judged.probability[k] == probabilities[image, label]
        assert judged.other_probability[k] == max(others.values())
        if judged.other[k] < 0:
            assert max(others.values()) == 0
        else:
            assert others[judged.other[k]] == max(others.values())


def test_the_margin_is_cleanlabs():
    from cleanlab.rank import get_label_quality_scores

    label, probabilities, _ = planted(60, 5, seed=1)
    judged = judge_labels(np.arange(60), label, probabilities)
    expected = get_label_quality_scores(label, probabilities, method="normalized_margin")
    np.testing.assert_allclose(judged.margin_quality, expected, atol=1e-6)


def test_groups_of_images_join_to_one():
    whole = judged_of([(0, 0), (2, 1)])
    parts = [judged_of([(0, 0)]), judged_of([]), judged_of([(1, 1)], PROBABILITIES[1:])]
    joined = join_judged(parts, [1, 0, 2])
    for name, column in vars(whole).items():
        np.testing.assert_array_equal(getattr(joined, name), column)
    assert len(join_judged([], [])) == 0


@pytest.mark.parametrize(("images", "classes"), [(400, 8), (90, 30)])
def test_single_label_issues_are_cleanlabs_in_any_chunks(images, classes):
    from cleanlab.experimental.label_issues_batched import find_label_issues_batched

    label, probabilities, wrong = planted(images, classes, seed=2)
    expected = find_label_issues_batched(
        labels=label, pred_probs=probabilities, verbose=False, return_mask=True,
        quality_score_kwargs={"method": "normalized_margin"},
    )  # fmt: skip
    for size in (images, 64, 7):
        found = find_single_label_issues(in_chunks(label, probabilities, size), classes)
        np.testing.assert_array_equal(found, expected)
    if images == 400:
        assert wrong[expected].mean() > 0.9
        assert expected[wrong].mean() > 0.5


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_multi_label_issues_are_cleanlabs(seed, with_bare_images):
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    first, softmax, _ = planted(120, 6, seed)
    generator = np.random.default_rng(seed)
    probabilities = np.sqrt(softmax).astype(np.float32)  # rows need not sum to 1
    labels = [sorted({int(k), int(generator.integers(6))}) for k in first]
    if with_bare_images:
        labels[:20] = [[]] * 20
    pairs = [(image, label) for image, found in enumerate(labels) for label in found]
    expected = find_multilabel_issues_per_class(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    judged = judged_of(pairs, probabilities)
    found = find_multi_label_issues(judged, probabilities.sum(axis=0, dtype=np.float64), len(labels))
    assert found.any()
    np.testing.assert_array_equal(found, [expected[image, label] for image, label in pairs])


def test_without_labels_there_are_no_issues():
    assert find_single_label_issues(lambda: iter(()), 3).shape == (0,)
    assert find_multi_label_issues(judged_of([]), np.zeros(3), 0).shape == (0,)


def test_a_class_of_all_images_has_no_multi_label_issue():
    judged = judged_of([(0, 0), (1, 0), (2, 0)])
    assert not find_multi_label_issues(judged, PROBABILITIES.sum(axis=0, dtype=np.float64), 3).any()


def test_classes_are_reported_worst_first():
    judged = judged_of([(0, 0), (0, 1), (1, 1), (2, 0)])
    reports = report_classes(judged, np.array([False, True, True, False]))
    assert [report.label for report in reports] == [1, 0]
    assert reports[0] == ClassReport(1, 2, 2, pytest.approx(1.5), 0, 1)  # as probable in the other image: class 2
    assert reports[1] == ClassReport(0, 2, 0, pytest.approx(1.3), 1, 1)
    assert reports[1].as_dict()["instead"] == 1
    assert report_classes(judged_of([]), np.zeros(0, bool)) == []


@pytest.mark.parametrize(
    ("module", "find"),
    [
        ("cleanlab.experimental.label_issues_batched", lambda: find_single_label_issues(lambda: iter(()), 3)),
        ("cleanlab.count", lambda: find_multi_label_issues(judged_of([]), np.zeros(3), 0)),
    ],
)
def test_without_cleanlab_the_error_states_how_to_install_it(module, find, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"mlimagenet-data\[audit\]"):
        find()
