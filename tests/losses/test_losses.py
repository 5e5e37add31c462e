"""The losses against slow loops over the papers' formulas, and their gradients and limits."""

import importlib
import math
import pkgutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.loss import AsymmetricLossMultiLabel
from torch.autograd import gradcheck

from mlimagenet_data import losses
from mlimagenet_data.losses.binary import asymmetric, binary_cross_entropy
from mlimagenet_data.losses.clicks import point_regression
from mlimagenet_data.losses.pooled import soft_cross_entropy
from mlimagenet_data.losses.single_positive import assume_negative, entropy_maximisation, expected_positive

B, K = 3, 5
values = st.floats(-8, 8)
logits_of = st.lists(st.lists(values, min_size=K, max_size=K), min_size=B, max_size=B)
targets_of = st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.3, 1.0]), min_size=K, max_size=K), min_size=B, max_size=B)
labels_of = st.lists(st.integers(-1, K - 1), min_size=B, max_size=B)


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow(logits, targets, term):
    """Return K times the mean of term(y, p) over decided classes."""
    terms = [
        term(y, sigmoid(x))
        for xs, ys in zip(logits, targets, strict=True)
        for x, y in zip(xs, ys, strict=True)
        if y >= 0
    ]
    return K * sum(terms) / len(terms) if terms else 0.0


def entropy_term(y, p):
    return -y * math.log(p) - (1 - y) * math.log(1 - p)


@settings(deadline=None)
@given(logits_of, targets_of)
def test_binary_cross_entropy_is_the_sum_over_decided_classes(logits, targets):
    found = float(binary_cross_entropy(double(logits), double(targets)))
    assert found == pytest.approx(slow(logits, targets, entropy_term), abs=1e-9)


@settings(deadline=None)
@given(logits_of, targets_of, st.sampled_from([(0, 0, 0.0), (0, 4, 0.05), (1, 2, 0.2), (2, 1, 0.0)]))
def test_asymmetric_loss_follows_the_papers_formula(logits, targets, parameters):
    pos, neg, margin = parameters

    def term(y, p):
        shifted = max(p - margin, 0.0)
        return -y * (1 - p) ** pos * math.log(p) - (1 - y) * shifted**neg * math.log(1 - shifted)

    found = asymmetric(double(logits), double(targets), gamma_pos=pos, gamma_neg=neg, margin=margin)
    assert float(found) == pytest.approx(slow(logits, targets, term), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(logits_of, st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=K, max_size=K), min_size=B, max_size=B))
def test_asymmetric_loss_equals_timms_for_hard_targets(logits, targets):
    logits, targets = torch.tensor(logits), torch.tensor(targets)
    ours = asymmetric(logits, targets, gamma_pos=1, gamma_neg=4, margin=0.05)
    timms = AsymmetricLossMultiLabel(gamma_neg=4, gamma_pos=1, clip=0.05)
    # one image at a time: old releases sum over images
    each = [float(timms(x[None], y[None])) for x, y in zip(logits, targets, strict=True)]
    assert float(ours) == pytest.approx(sum(each) / B, rel=1e-4, abs=1e-6)


@settings(deadline=None)
@given(logits_of, labels_of, st.floats(0, 0.5))
def test_assume_negative_is_cross_entropy_with_smoothed_targets(logits, labels, smoothing):
    smoothed = [
        [-1.0 if label < 0 else 1 - smoothing if k == label else smoothing for k in range(K)] for label in labels
    ]
    found = float(assume_negative(double(logits), torch.tensor(labels), smoothing=smoothing))
    assert found == pytest.approx(slow(logits, smoothed, entropy_term), abs=1e-9)


@settings(deadline=None)
@given(logits_of, labels_of)
def test_entropy_maximisation_rewards_uncertainty(logits, labels):
    one_hot = [[-1.0 if label < 0 else float(k == label) for k in range(K)] for label in labels]

    def term(y, p):
        return -math.log(p) if y == 1 else 0.1 * (p * math.log(p) + (1 - p) * math.log(1 - p))

    found = float(entropy_maximisation(double(logits), torch.tensor(labels), weight=0.1))
    assert found == pytest.approx(slow(logits, one_hot, term), abs=1e-9)


@settings(deadline=None)
@given(logits_of, labels_of)
def test_expected_positive_counts_classes_over_the_batch(logits, labels):
    known = [(xs, label) for xs, label in zip(logits, labels, strict=True) if label >= 0]
    positive = sum(-math.log(sigmoid(xs[label])) / K for xs, label in known) / max(len(known), 1)
    count = sum(sum(sigmoid(x) for x in xs) for xs, _ in known) / max(len(known), 1)
    expected = K * (positive + ((count - 1.5) / K) ** 2) if known else 0.0
    found = float(expected_positive(double(logits), torch.tensor(labels), count=1.5))
    assert found == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(
    logits_of,
    st.lists(st.one_of(st.none(), st.lists(st.floats(0.01, 1), min_size=K, max_size=K)), min_size=B, max_size=B),
)
def test_soft_cross_entropy_averages_over_images_with_a_target(logits, weights):
    targets = [[0.0] * K if w is None else [v / sum(w) for v in w] for w in weights]
    terms = []
    for xs, ys in zip(logits, targets, strict=True):
        if sum(ys) > 0:
            log_sum = math.log(sum(math.exp(x) for x in xs))
            terms.append(-sum(y * (x - log_sum) for x, y in zip(xs, ys, strict=True)))
    found = float(soft_cross_entropy(double(logits), double(targets)))
    assert found == pytest.approx(sum(terms) / len(terms) if terms else 0.0, abs=1e-9)


def hard_targets():
    return torch.tensor([[1.0, 0, -1, 0, 1], [0, 0, 0, 0, 0], [-1, -1, -1, -1, -1]])


LABELS = torch.tensor([1, 4, -1])
LOSSES = {
    "bce": lambda x: binary_cross_entropy(x, hard_targets()),
    "asl": lambda x: asymmetric(x, hard_targets()),
    "asl, gammas 1": lambda x: asymmetric(x, hard_targets(), gamma_pos=1, gamma_neg=1, margin=0),
    "soft": lambda x: soft_cross_entropy(x, torch.eye(B, K)),
    "an": lambda x: assume_negative(x, LABELS),
    "an-ls": lambda x: assume_negative(x, LABELS, smoothing=0.05),
    "em": lambda x: entropy_maximisation(x, LABELS),
    "epr": lambda x: expected_positive(x, LABELS, count=1.2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_match_numerical_ones(name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((B, K), dtype=torch.float64, generator=generator).requires_grad_()
    assert gradcheck(LOSSES[name], (logits,))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_have_finite_losses_and_gradients(name, size, dtype):
    logits = torch.full((B, K), size, dtype=dtype).requires_grad_()
    loss = LOSSES[name](logits)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("make", [
    lambda x: binary_cross_entropy(x, -torch.ones(B, K)),
    lambda x: asymmetric(x, -torch.ones(B, K)),
    lambda x: soft_cross_entropy(x, torch.zeros(B, K)),
    lambda x: assume_negative(x, torch.full((B,), -1)),
    lambda x: entropy_maximisation(x, torch.full((B,), -1)),
    lambda x: expected_positive(x, torch.full((B,), -1), count=2.0),
])  # fmt: skip
def test_the_loss_is_zero_if_nothing_is_decided(make):
    logits = torch.randn(B, K).requires_grad_()
    loss = make(logits)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_all_negative_targets_lower_every_logit():
    logits = torch.zeros(B, K, requires_grad=True)
    binary_cross_entropy(logits, torch.zeros(B, K)).backward()
    torch.testing.assert_close(logits.grad, torch.full((B, K), 0.5 / B))


def test_the_gradient_of_the_asymmetric_loss_vanishes_for_easy_negatives():
    logits = torch.full((1, K), -4.0, requires_grad=True)  # sigmoid is 0.018, below the margin
    asymmetric(logits, torch.zeros(1, K)).backward()
    assert not logits.grad.any()


def test_point_regression_is_the_smooth_l1_of_points_in_the_crop():
    predicted = torch.tensor([[0.5, 0.5], [3.0, 0.0], [0.2, 0.2]], dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[0.25, 0.5], [0.0, 0.0], [1.0, 1.0]])
    loss = point_regression(predicted, points, torch.tensor([1.0, 1.0, 0.0]))
    assert loss.item() == pytest.approx((0.25**2 / 2 + (3 - 0.5)) / 2)
    assert point_regression(predicted, points, torch.zeros(3)).item() == 0
    assert gradcheck(lambda p: point_regression(p, points, torch.tensor([1.0, 1.0, 0.0])), (predicted,))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: binary_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4)), r"\(2, 3\) and \(2, 4\)"),
    (lambda: asymmetric(torch.zeros(2, 3), torch.zeros(2, 3), gamma_neg=0.5), "0.5"),
    (lambda: asymmetric(torch.zeros(2, 3), torch.zeros(2, 3), margin=1), "margin"),
    (lambda: soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])), "pooled"),
    (lambda: assume_negative(torch.zeros(2, 3), torch.zeros(2, 3)), "single"),
    (lambda: assume_negative(torch.zeros(2, 3), torch.zeros(2).long(), smoothing=0.6), "0.6"),
    (lambda: expected_positive(torch.zeros(2, 3), torch.zeros(2).long(), count=-1), "-1"),
    (lambda: point_regression(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(3)), r"\(3,\)"),
])  # fmt: skip
def test_invalid_arguments_are_named_in_the_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_public_loss_is_importable_from_the_package():
    assert {name: getattr(losses, name).__name__ for name in losses.__all__} == {name: name for name in losses.__all__}
    assert set(losses.__all__) <= set(dir(losses))
    names = {found.name for found in pkgutil.iter_modules(losses.__path__)} - {"reduction"}
    modules = [importlib.import_module(f"{losses.__name__}.{name}") for name in names]
    assert set(losses.__all__) == {name for module in modules for name in module.__all__}
    with pytest.raises(AttributeError, match="nothing"):
        _ = losses.nothing


def test_importing_the_losses_does_not_load_torch():
    code = "import sys, mlimagenet_data.losses; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
