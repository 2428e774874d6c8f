"""What a comparison costs: at best, before anything is started, and at the pace of the seeds that were read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qkvlab.evidence.betting import DEFAULT_BETS
from qkvlab.evidence.checks import bet_grid
from qkvlab.evidence.rule import Rule

MOST = 100_000
"""More seeds than this are no plan: the mean lies on the edge as far as anyone can see."""


def looks_needed(values: NDArray[np.float64], m: float, clip: float, rule: Rule, *, up: bool) -> float:
    """Estimate at how many seeds "the mean is m" is refused if all are like these.

    At the pace of the values each bet's purse grows by a fixed factor per seed; the mixture has decided when the best
    of them has paid 2 / alpha and the share of the others.

    Args:
        values: clipped numbers, [n], n > 0.
        m: the mean that is to be refused.
        clip: bound of the values.
        rule: alpha and bets.
        up: whether the bet is that the mean is larger; smaller otherwise.

    Returns:
        Infinite where no bet gains.
    """
    bets = np.asarray(rule.bets)[:, None]
    stakes = bets * (values - m) / (clip + m) if up else bets * (m - values) / (clip - m)
    pace = float(np.log1p(stakes).mean(axis=1).max())
    return (math.log(2 / rule.alpha) + math.log(len(rule.bets))) / pace if pace > 0 else math.inf


def seeds_needed(
    alpha: float,
    delta: float,
    clip: float | None = None,
    bets: Sequence[float] = DEFAULT_BETS,
    weights: Sequence[float] | None = None,
) -> tuple[int, int]:
    """Return the smallest numbers of seeds that can show a difference and an equivalence.

    The clearest difference is D_i = R for all i: each bet multiplies its purse by 1 + b against the claim 0,
    whatever R is. The clearest equivalence is D_i = 0: each bet multiplies by 1 + b delta / (R - delta)
    against delta.

    Args:
        alpha: error rate of the comparison, already divided by their number.
        delta: smallest difference that matters.
        clip: R; 4 delta when None.
        bets: the grid of bets.
        weights: one per bet, sum 1; equal when None.

    Returns:
        (seeds for a difference, seeds for an equivalence). Real data are noisier and take more.

    Raises:
        BadInput: as for `Rule`.

    >>> seeds_needed(alpha=0.05, delta=0.05)
    (8, 18)
    """
    rule = Rule(delta=delta, alpha=alpha) if clip is None else Rule(delta=delta, alpha=alpha, clip=clip)
    stakes, log_weights = bet_grid(bets, weights)

    def first(edge: float) -> int:
        gains = np.log1p(stakes * edge)
        return _first(lambda n: float(np.logaddexp.reduce(log_weights + n * gains)) > math.log(2 / alpha))

    return first(1.0), first(rule.delta / (rule.clip - rule.delta))


def _first(holds: Callable[[int], bool]) -> int:
    """Return the smallest n >= 1 at which a condition that stays true begins to hold."""
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2  # does not hold there (or is 0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
