"""How far original labels are trusted, fitted from the images' original labels and a classifier's evidence alone.

A label's score is the probability that a person would agree with it. A classifier's probability of the original label is
far too low for that: somebody has already looked at the photograph and chosen this label. Two numbers turn it into a
score. With `own` the classifier's probability of the original class and `rival` that of the best other class,

    score = 1 / (1 + error / (1 - error) * (rival / own) ** weight)

by Bayes' rule: `error` is the share of original labels that are wrong, and the ratio, damped by `weight`, is the evidence.

Nobody's judgement is needed to fit them. What would a wrong original label look like to the classifier? Like the most
convincing wrong class that it sees, the rival. So rivals, each compared with the best of the other classes as if it were
the original, are the examples of wrong labels:

- `weight` is the slope of a logistic regression that tells original labels from rivals by the logarithm of the ratio.
  Rivals count by their probability, because people err where a photograph is ambiguous;
- `error` is the share of original labels among the ratios of the weakest tenth of rivals, relative to that of rivals: so
  low, hardly any original label is right (the anchor of mixture proportion estimation; Blanchard, Lee and Scott,
  "Semi-supervised novelty detection", JMLR 2010).

Both are held towards prior values while images are few. Limits: if wrong labels are mostly those that the classifier finds
convincing, too, `error` comes out too low, and a classifier that hardly tells the classes apart makes it too high; it is kept
below 0.3. The order of the scores does not depend on either number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PRIOR", "OriginalTrust", "fit_trust"]

_LEAST = 1e-9  # a probability of 0 is a rounding error
_WEAKEST = 0.1  # share of rivals below the anchor
_PRIOR_RIVALS = 20  # weight of the prior error, in rivals below the anchor: 200 images
_PRIOR_SPREAD = 0.1  # standard deviation of the prior weight


@dataclass(frozen=True)
class OriginalTrust:
    """The two numbers.

    Attributes:
        error: Share of original labels that are wrong, in (0, 1).
        weight: Exponent of the evidence, positive: a score never falls when the original label's probability rises.
        images: Number of images that they were fitted on.
    """

    error: float
    weight: float
    images: int = 0

    @property
    def odds(self) -> float:
        """Prior odds that an original label is right."""
        return (1 - self.error) / self.error

    def score(self, own: float, rival: float) -> float:
        """Return the probability that the original label is right, in (0, 1].

        Args:
            own: The classifier's probability of the original class.
            rival: That of the best other class.
        """
        evidence = (max(rival, _LEAST) / max(own, _LEAST)) ** self.weight
        return float(1 / (1 + evidence / self.odds))


PRIOR = OriginalTrust(error=0.1, weight=0.6)  # published estimates for ImageNet are 6% and more (arXiv 2103.14749)


def fit_trust(own: NDArray[np.float64], rival: NDArray[np.float64], rest: NDArray[np.float64]) -> OriginalTrust:
    """Fit both numbers to N images; without images, return PRIOR.

    Args:
        own: (N,), the classifier's probability of each image's original class.
        rival: (N,), that of the best other class.
        rest: (N,), that of the best class but the rival: the original class or a third one.
    """
    if not len(own):
        return PRIOR
    low, middle, rest = (np.log(np.maximum(values, _LEAST)) for values in (own, rival, rest))
    originals, rivals = low - middle, middle - rest
    anchor = np.quantile(rivals, _WEAKEST)
    expected = _WEAKEST * len(rivals)
    error = (np.count_nonzero(originals < anchor) + PRIOR.error * _PRIOR_RIVALS) / (expected + _PRIOR_RIVALS)
    return OriginalTrust(float(np.clip(error, 0.001, 0.3)), _slope(originals, rivals, rival), len(own))


def _slope(originals: NDArray[np.float64], rivals: NDArray[np.float64], probabilities: NDArray[np.float64]) -> float:
    """Return the slope of the logistic regression of original or rival on the log ratio, with a Gaussian prior.

    Args:
        originals: (N,) log ratios.
        rivals: (N,) log ratios.
        probabilities: (N,), the rivals' weights.
    """
    from scipy.optimize import minimize  # slow to import, and --help does not need it

    ratios = np.concatenate((originals, rivals))
    is_original = np.arange(len(ratios)) < len(originals)
    weights = np.concatenate((np.ones(len(originals)), probabilities / max(probabilities.mean(), _LEAST)))

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        offset, slope = values
        logits = offset + slope * ratios
        wrong = weights * (1 / (1 + np.exp(-logits)) - is_original)
        pull = (slope - PRIOR.weight) / _PRIOR_SPREAD**2
        value = weights @ np.logaddexp(0, np.where(is_original, -logits, logits)) + pull * (slope - PRIOR.weight) / 2
        return float(value), np.array([wrong.sum(), wrong @ ratios + pull])

    found = minimize(loss, [0.0, PRIOR.weight], jac=True, bounds=[(-20, 20), (0.1, 4)], method="L-BFGS-B")
    return float(found.x[1])
