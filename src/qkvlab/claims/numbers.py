"""The number that each seed gives to a check, and what the betting says of its mean.

Axes: n seed, in the order of the registered list. Units: those of the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qkvlab.claims.check import Check, Key, Term
from qkvlab.evidence import Outcome, Rule, intervals, wealth_down, wealth_up

Runs = Callable[[Key, str, str], Sequence[Outcome] | None]
"""``runs(key, design, metric)``: outcomes on the finished prefix of the seeds; None where no run holds the metric."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Numbers:
    """What the seeds say.

    Attributes:
        check: the question, in units of its metric.
        values: the numbers of each term, [term, n]; those of `check.terms`, then those of `check.of`.
        lost: runs that diverged, [term, n].
    """

    check: Check
    values: Floats
    lost: NDArray[np.bool_]

    def __len__(self) -> int:
        return self.values.shape[1]

    def upto(self, n: int) -> Numbers:
        """Return the first n seeds."""
        return replace(self, values=self.values[:, :n], lost=self.lost[:, :n])

    def levels(self) -> tuple[float, ...]:
        """Return the mean of each term over its runs that did not diverge."""
        kept = zip(self.values, self.lost, strict=True)
        return tuple(float(row[~gone].mean()) if (~gone).any() else math.nan for row, gone in kept)

    def clipped(self, part: float | Floats = 0.0) -> Floats:
        """Return one number per seed, clipped: the sum of the terms, less ``part`` of the second sum.

        Where a run diverged, losses count as the clip against it (0 where both sides did, as in `paired`); of other
        metrics such a seed says nothing, so it counts as the threshold itself.

        Args:
            part: one number, or many of shape [c]; it means nothing without a second sum.

        Returns:
            [n], or [c, n].
        """
        check = self.check
        own = np.array([term.weight for term in check.terms] + [0.0] * len(check.of))
        second = np.array([0.0] * len(check.terms) + [term.weight for term in check.of])
        weights = own - np.asarray(part)[..., None] * second
        # a plain sum where nothing is lost, the direction of the loss where something is
        found = np.clip(weights @ self.values, check.centre - check.clip, check.centre + check.clip)
        against = np.sign(np.round(weights @ self.lost, 12))
        blamed = check.centre + check.clip * against if check.is_loss else check.threshold
        return np.where(self.lost.any(axis=0), blamed, found)

    def sides(self, rule: Rule) -> NDArray[np.int_]:
        """Return on which side of the threshold the mean is shown to lie at every look, [n]: 1, -1, or 0 for open."""
        check = self.check
        if check.of:
            return _sides(self.clipped(check.threshold), 0.0, check.clip, rule)
        return _sides(self.clipped() - check.centre, check.threshold - check.centre, check.clip, rule)

    def interval(self, rule: Rule) -> tuple[float, float]:
        """Return the interval at the last look: of the mean, or of the part."""
        check = self.check
        if check.of:
            return _parts(self, rule)
        if not len(self):
            return check.centre - check.clip, check.centre + check.clip
        bounds = intervals(self.clipped() - check.centre, check.clip, rule.alpha, rule.bets, rule.weights)
        return check.centre + float(bounds.low[-1]), check.centre + float(bounds.high[-1])

    def estimate(self) -> float:
        """Return the mean of the clipped numbers, or the ratio of the two sums' means; NaN without seeds."""
        if not len(self):
            return math.nan
        if not self.check.of:
            return float(self.clipped().mean())
        kept = self.values[:, ~self.lost.any(axis=0)]
        terms = (*self.check.terms, *self.check.of)
        means = [term.weight * float(row.mean()) for term, row in zip(terms, kept, strict=True)] if kept.size else []
        split = len(self.check.terms)
        below = sum(means[split:])
        return sum(means[:split]) / below if below else math.nan


def gather(check: Check, runs: Runs) -> Numbers | None:
    """Return the numbers on the common prefix of all arms; None where some metric is not measured at all."""
    terms: tuple[Term, ...] = (*check.terms, *check.of)
    arms = [runs(term.key, term.design, term.metric) for term in terms]
    if any(arm is None for arm in arms):
        return None
    found = [arm for arm in arms if arm is not None]
    n = min(len(arm) for arm in found)
    lost = np.array([[run.lost for run in arm[:n]] for arm in found], dtype=bool)
    values = np.array([[run.value for run in arm[:n]] for arm in found], dtype=float)
    return Numbers(check, np.where(lost, 0.0, values), lost)


def _sides(values: Floats, m: float, clip: float, rule: Rule) -> NDArray[np.int_]:
    """Return on which side the claim "the mean is m" has lost its bettors 2/alpha, now or before: [..., n]."""
    if not values.size:
        return np.zeros(values.shape, int)
    above = wealth_up(values, m, clip, rule.bets, rule.weights) > 2 / rule.alpha
    below = wealth_down(values, m, clip, rule.bets, rule.weights) > 2 / rule.alpha
    return np.maximum.accumulate(above, axis=-1).astype(int) - np.maximum.accumulate(below, axis=-1).astype(int)


_STEPS = 200
"""Parts between -1 and 1 are tried in steps of .01; the interval is rounded outward to them."""


def _parts(numbers: Numbers, rule: Rule) -> tuple[float, float]:
    """Return the parts c that no look has refused: those for which "the mean of terms - c of is 0" may be true.

    The true part is refused at any look with probability at most alpha, so no further error rate is spent.
    """
    grid = np.linspace(-1, 1, _STEPS + 1)
    sides = _sides(numbers.clipped(grid), 0.0, numbers.check.clip, rule)
    # the sum falls as c grows, as long as the second sum is positive: refused from above means that c is too small
    too_small, too_large = grid[(sides > 0).any(axis=-1)], grid[(sides < 0).any(axis=-1)]
    return float(too_small.max(initial=-1.0)), float(too_large.min(initial=1.0))
