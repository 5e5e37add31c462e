"""How far original labels are trusted: the score's formula, and the fit on made-up images with planted wrong labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.labeler.originals import PRIOR, OriginalTrust, fit_trust

probabilities = st.floats(0, 1)
trusts = st.builds(OriginalTrust, error=st.floats(0.001, 0.5), weight=st.floats(0.1, 1.5))


@pytest.mark.parametrize(
    ("error", "weight", "own", "rival", "expected"),
    [
        (0.1, 1.0, 0.2, 0.2, 0.9),  # no evidence: the prior
        (0.5, 1.0, 0.3, 0.1, 0.75),  # odds of 1 times 3
        (0.2, 1.0, 0.1, 0.4, 0.5),  # 4 times a quarter
        (0.2, 0.5, 0.1, 0.4, 2 / 3),  # 4 times the root of a quarter
        (0.5, 0.5, 0.0, 0.1, 1e-4 / (1 + 1e-4)),  # a probability of 0 counts as 1e-9
    ],
)
def test_a_score_is_the_prior_odds_times_the_damped_ratio(error, weight, own, rival, expected):
    assert OriginalTrust(error, weight).score(own, rival) == pytest.approx(expected)


@given(trusts, probabilities, probabilities, probabilities)
def test_a_score_never_falls_with_the_original_classes_probability_nor_rises_with_the_rivals(trust, own, rival, other):
    low, high = sorted((own, other))
    assert 0 < trust.score(low, rival) <= trust.score(high, rival) <= 1  # 1 - 1e-17 is rounded to 1
    assert trust.score(rival, high) <= trust.score(rival, low)


@given(trusts, probabilities)
def test_without_evidence_a_score_is_the_share_of_right_labels(trust, both):
    assert trust.score(both, both) == pytest.approx(1 - trust.error)
    assert trust.odds == pytest.approx((1 - trust.error) / trust.error)


def planted(share, *, seed=0, ambiguous=False, count=3000, classes=40):
    """Made-up images, with a share of their original labels replaced by the best other class.

    Args:
        share: Share of wrong originals.
        seed: Seed.
        ambiguous: Whether images whose best other class is likelier get a wrong label more often.
        count: Number of images.
        classes: Number of classes.

    Returns:
        (N, K) probabilities, (N,) original classes, and (N,) whether they are wrong.
    """
    generator, every = np.random.default_rng(seed), np.arange(count)
    truth = generator.integers(classes, size=count)
    concentration = np.full((count, classes), 0.02)
    concentration[every, truth] += 3
    concentration[every, (truth + 1) % classes] += 1  # a class that looks like it
    drawn = generator.gamma(concentration) + 1e-12
    p = drawn / drawn.sum(axis=1, keepdims=True)
    others = p.copy()
    others[every, truth] = 0
    chances = others.max(axis=1) if ambiguous else np.ones(count)
    wrong = np.zeros(count, bool)
    wrong[generator.choice(count, round(share * count), replace=False, p=chances / chances.sum())] = True
    return p, np.where(wrong, others.argmax(axis=1), truth), wrong


def evidence(p, original):
    """(own, rival, rest), one image at a time."""
    rows = []
    for row, index in zip(p, original, strict=True):
        second, best = np.sort(np.delete(row, index))[-2:]
        rows.append((row[index], best, max(row[index], second)))
    return tuple(np.array(rows).T)


def scores_of(trust, own, rival, _):
    return np.array([trust.score(*pair) for pair in zip(own, rival, strict=True)])


def test_without_images_the_prior_remains():
    assert fit_trust(*np.zeros((3, 0))) == PRIOR


def test_a_few_images_hardly_move_the_prior():
    for p, original, _ in (planted(0.0, count=4), planted(0.5, count=4)):
        trust = fit_trust(*evidence(p, original))
        assert trust.images == 4
        assert trust.error == pytest.approx(PRIOR.error, abs=0.06)
        assert trust.weight == pytest.approx(PRIOR.weight, abs=0.2)


def test_the_error_is_counted_below_the_weakest_tenth_of_rivals():
    """200 rivals with log ratios 0.005, 0.015, ...: the tenth lies at 0.2; 40 of 200 originals are below it."""
    rest = np.full(200, 0.01)
    rival = rest * np.exp((np.arange(200) + 0.3) / 100)
    own = rival * np.exp(np.where(np.arange(200) < 40, 0.0, 3.0))
    expected = (40 + 0.1 * 20) / (20 + 20)  # two more of twenty, by the prior
    assert fit_trust(own, rival, rest).error == pytest.approx(min(0.3, expected))
    own = rival * np.exp(np.where(np.arange(200) < 10, 0.0, 3.0))
    assert fit_trust(own, rival, rest).error == pytest.approx((10 + 0.1 * 20) / (20 + 20))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_of_wrong_originals_is_found(seed):
    for share in (0.05, 0.1, 0.2, 0.3):
        p, original, wrong = planted(share, seed=seed)
        seen = evidence(p, original)
        trust = fit_trust(*seen)
        assert trust.error == pytest.approx(share, abs=0.025 + 0.25 * share)
        assert scores_of(trust, *seen).mean() == pytest.approx(1 - wrong.mean(), abs=0.02 + 0.25 * share)


@pytest.mark.parametrize("ambiguous", [False, True])
def test_the_estimate_grows_with_the_share_of_wrong_originals(ambiguous):
    """Where people err more on ambiguous photographs, it is too low, but still grows."""
    shares = (0.0, 0.05, 0.1, 0.2, 0.3)
    found = [fit_trust(*evidence(*planted(share, ambiguous=ambiguous)[:2])).error for share in shares]
    assert found == sorted(found)
    assert found[0] < 0.02
    assert found[-1] > 2 * found[1]


@pytest.mark.parametrize("ambiguous", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_wrong_originals_score_lowest(share, ambiguous):
    p, original, wrong = planted(share, ambiguous=ambiguous)
    seen = evidence(p, original)
    scores = scores_of(fit_trust(*seen), *seen)
    below = (scores[wrong][:, None] < scores[~wrong]) + 0.5 * (scores[wrong][:, None] == scores[~wrong])
    assert below.mean() > 0.85  # the area under the ROC curve
    right = [1 - wrong[part].mean() for part in np.array_split(scores.argsort(), 5)]
    assert right == sorted(right)  # a higher score, a larger share of right labels


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 300))
def test_the_fit_depends_neither_on_the_run_nor_on_the_order_of_images(seed, count):
    p, original, _ = planted(0.1, seed=seed, count=count)
    own, rival, rest = evidence(p, original)
    trust = fit_trust(own, rival, rest)
    assert fit_trust(own, rival, rest) == trust
    order = np.random.default_rng(seed).permutation(count)
    shuffled = fit_trust(own[order], rival[order], rest[order])
    assert shuffled.error == trust.error
    assert shuffled.weight == pytest.approx(trust.weight, abs=1e-3)
    assert 0.001 <= trust.error <= 0.5
    assert trust.weight >= 0.1


def test_probabilities_of_0_and_1_can_be_fitted():
    own, rival = np.array([1.0, 0.0] * 50), np.array([0.0, 1.0] * 50)
    trust = fit_trust(own, rival, np.maximum(own, 0.0))
    assert np.isfinite([trust.error, trust.weight]).all()
    assert 0 < trust.score(0.0, 1.0) < trust.score(0.5, 0.5) < trust.score(1.0, 0.0) < 1


def slow_loss(slope, offset, originals, rivals, weights):
    """The penalised negative log likelihood, one example at a time."""
    total = (slope - PRIOR.weight) ** 2 / (2 * 0.1**2)
    for ratio in originals:
        total += np.log(1 + np.exp(-(offset + slope * ratio)))
    for ratio, weight in zip(rivals, weights, strict=True):
        total += weight * np.log(1 + np.exp(offset + slope * ratio))
    return total


def test_the_weight_minimises_the_penalised_loss():
    own, rival, rest = evidence(*planted(0.1, count=150)[:2])
    originals, rivals, weights = np.log(own / rival), np.log(rival / rest), rival / rival.mean()
    grid = np.linspace(0.1, 2.5, 97)
    losses = [min(slow_loss(s, o, originals, rivals, weights) for o in np.linspace(-2, 2, 41)) for s in grid]
    assert fit_trust(own, rival, rest).weight == pytest.approx(grid[np.argmin(losses)], abs=0.04)
