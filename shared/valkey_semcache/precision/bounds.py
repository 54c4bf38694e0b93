"""The statistics behind `Verified`: upper limits on how often something goes wrong, and a model of
when.

Rule of this file: numbers in, numbers out; every formula with its source.
"""

from __future__ import annotations

from functools import cache
from math import exp, inf, lgamma, log, log1p
from typing import Any

import numpy as np

_STEPS = 60  # halvings of an interval: exact to the last bit of what anyone reads


def clopper_pearson(errors: int, trials: int, alpha: float) -> float:
    """Upper limit of an error rate: the exact binomial one, at confidence `1 - alpha`.

    Source: C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated
    in the case of the binomial, Biometrika 26 (1934).

    Args:
        errors: How many trials went wrong.
        trials: How many there were; 0 says nothing, and the limit is 1.
        alpha: Probability that the true rate lies above the limit.
    """
    if trials <= 0 or errors >= trials:
        return 1.0
    low, high = errors / trials, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _at_most(errors, trials, middle) > alpha:
            low = middle
        else:
            high = middle
    return high


def _at_most(errors: int, trials: int, rate: float) -> float:
    """Probability of so many errors or fewer."""
    if rate >= 1.0:
        return 0.0
    odds, term = rate / (1 - rate), exp(trials * log1p(-rate))
    total = term
    for k in range(errors):
        term *= odds * (trials - k) / (k + 1)
        total += term
    return total


@cache
def anytime_limit(events: int, alpha: float) -> float:
    """Upper limit of how many events were to be expected, however often one looks.

    If events come one by one, each with a probability that is known up to a common factor, the
    sum of these probabilities times the true factor stays below this limit at all times at once,
    with probability `1 - alpha`: whoever looks after each request, and stops or acts on what he
    sees, is covered. Looking once would allow about 1.3 times the events at 50 of them; this
    allows about 1.5 times.

    The mixture of likelihood ratios over a Gamma(1, 1) factor is a nonnegative supermartingale,
    and Ville's inequality bounds how often it ever exceeds `1 / alpha`. Sources: H. Robbins,
    Statistical methods related to the law of the iterated logarithm (1970); S. R. Howard and
    others, Time-uniform, nonparametric, nonasymptotic confidence sequences (2021), its
    gamma-Poisson mixture.

    Args:
        events: How many there were.
        alpha: Probability that the limit is ever too low.
    """
    bar = log(1 / alpha)
    low, high = float(events), 10.0 + 4 * events
    for _ in range(_STEPS):
        middle = (low + high) / 2
        # Of one rate of `middle` against one with the mixed factor.
        if lgamma(1 + events) - (1 + events) * log1p(middle) + middle < bar:
            low = middle
        else:
            high = middle
    return high


def logistic(rows: Any, right: Any, prior: Any, precision: Any) -> Any:
    """Weights of a logistic model of being right: the mode under a Gaussian prior, by Newton.

    Source: D. R. Cox, The regression analysis of binary sequences (1958).

    Args:
        rows: What is known of each case, shape (cases, features).
        right: 1 for right, 0 for wrong, shape (cases,).
        prior: The weights expected before there is a case, shape (features,).
        precision: How firmly, per weight, shape (features,).
    """
    weights = prior.copy()
    for _ in range(12):
        chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (chance - right) + precision * (weights - prior)
        curve = (rows * (chance * (1 - chance))[:, None]).T @ rows + np.diag(precision)
        step = np.clip(np.linalg.solve(curve, slope), -5, 5)
        weights = weights - step
        if np.abs(step).max() < 1e-4:
            break
    return weights


class Change:
    """Tells that errors have become more frequent than was predicted, soon after they have.

    A CUSUM of log-likelihood ratios against odds four times as high. Source: E. S. Page,
    Continuous inspection schemes (1954). If predictions hold, a false alarm is to be expected
    once in about `e ** 12` labels.
    """

    FACTOR, ALARM = 4.0, 12.0

    def __init__(self) -> None:
        self._sum, self._since, self._seen = 0.0, 0, 0

    def sees(self, risk: float, wrong: bool) -> int | None:
        """One more label: since which one, from 0, the world is another; None if it is not.

        Args:
            risk: The error's predicted probability.
            wrong: Whether it was one.
        """
        risk = min(max(risk, 0.002), 0.9)
        odds = self.FACTOR * risk / (1 - risk)
        other = odds / (1 + odds)
        gain = log(other / risk) if wrong else log((1 - other) / (1 - risk))
        if self._sum + gain <= 0:
            self._sum, self._since = 0.0, self._seen + 1
        else:
            self._sum += gain
        self._seen += 1
        return self._since if self._sum > self.ALARM else None


NEVER = inf
"""A boundary that nothing reaches."""
