"""The betting confidence sequence: an interval for a bounded mean, valid at every look, for any distribution.

Somebody claims that the mean of D in [-R, R] is m. Bet against it, a share b of the purse each time: if the
claim is true the game is fair, so the purse is a martingale that starts at 1, and by Ville's inequality it
ever reaches 2/alpha with probability at most alpha/2. A claim m that has lost its bettors that much is
refused; what is left is the interval. Half of alpha pays for bets that the mean is larger, half for bets that
it is smaller.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv 2010.09686;
here with a fixed grid of bets whose purses are mixed by fixed weights.

Axes: n look (the n-th has seen n differences), b bet.
Units: D, m, R and the interval are in units of the judged metric; wealth is a pure number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qkvlab.errors import BadInput
from qkvlab.evidence.checks import Floats, bet_grid, positive, probability, within
from qkvlab.evidence.roots import lower_ends

DEFAULT_BETS: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.98)

# The ends are moved outward by this share of R, so that rounding can only widen an interval.
_OUTWARD = 1e-12


def wealth_up(
    differences: ArrayLike,
    m: float,
    clip: float,
    bets: Sequence[float] = DEFAULT_BETS,
    weights: Sequence[float] | None = None,
) -> Floats:
    """Return the wealth of having bet that the mean is larger than m, at every look.

        K+_n(m) = sum_b w_b prod_{i<=n} (1 + b (D_i - m) / (R + m))

    Falls as m rises. Where the mean is m, its expectation is 1 at every n.

    Args:
        differences: D, [..., n], each in [-clip, clip]; leading axes are separate experiments.
        m: the claimed mean, strictly inside (-clip, clip).
        clip: R.
        bets: shares of the purse, each in (0, 1).
        weights: one per bet, sum 1; equal when None.

    Returns:
        K+_1 ... K+_N, [..., n]; ``inf`` where it exceeds float64.

    Raises:
        BadInput: m, clip, bets, weights or a difference outside the stated range.

    >>> [round(float(k), 6) for k in wealth_up([0.3, 0.1], m=0.0, clip=1.0, bets=(0.25, 0.5, 0.75))]
    [1.15, 1.20875]
    """
    positive("clip", clip, "It bounds every difference; the rule's default is 4 delta.")
    if not -clip < m < clip:
        raise BadInput(f"m must lie strictly between -clip and clip; got m={m!r}, clip={clip!r}.")
    stakes, log_weights = bet_grid(bets, weights)
    edge = (within(differences, clip) - m) / (clip + m)
    # One purse per bet, kept as logarithms: products of hundreds of factors leave the range of float64.
    purses = np.stack([lw + np.cumsum(np.log1p(b * edge), axis=-1) for b, lw in zip(stakes, log_weights, strict=True)])
    largest = purses.max(axis=0)
    with np.errstate(over="ignore"):
        return np.exp(largest + np.log(np.exp(purses - largest).sum(axis=0)))


def wealth_down(
    differences: ArrayLike,
    m: float,
    clip: float,
    bets: Sequence[float] = DEFAULT_BETS,
    weights: Sequence[float] | None = None,
) -> Floats:
    """Return the wealth of having bet that the mean is smaller than m, at every look.

        K-_n(m) = sum_b w_b prod_{i<=n} (1 + b (m - D_i) / (R - m))

    It is ``wealth_up`` of the negated differences at -m; arguments and errors are those of `wealth_up`.
    """
    return wealth_up(np.negative(np.asarray(differences, dtype=np.float64)), -m, clip, bets, weights)


@dataclass(frozen=True, eq=False)
class Intervals:
    """The confidence sequence of one experiment: at look n the mean lies in [low[n-1], high[n-1]].

    Attributes:
        low: L, running maximum of the lower ends, [n]; -R as long as nothing is excluded.
        high: U, running minimum of the upper ends, [n]; R as long as nothing is excluded.
    """

    low: Floats
    high: Floats

    def __len__(self) -> int:
        return self.low.size

    @property
    def empty(self) -> NDArray[np.bool_]:
        """True at the looks where no mean is left, [n]: the data break the model (say, they drift)."""
        return self.low >= self.high


def intervals(
    differences: ArrayLike,
    clip: float,
    alpha: float,
    bets: Sequence[float] = DEFAULT_BETS,
    weights: Sequence[float] | None = None,
) -> Intervals:
    """Return the intervals that cover the mean at all looks at once with probability at least 1 - alpha.

        L_n: K+_n(L_n) = 2/alpha,  U_n: K-_n(U_n) = 2/alpha,  L = max_{i<=n} L_i,  U = min_{i<=n} U_i

    Args:
        differences: D in the order of the registered seed list, [n], each in [-clip, clip].
        clip: R.
        alpha: error rate of this one sequence, both sides together; alpha / k for k comparisons.
        bets: shares of the purse, each in (0, 1).
        weights: one per bet, sum 1; equal when None.

    Returns:
        Ends for n = 1 ... N; none of them where there are no differences.

    Raises:
        BadInput: an argument outside its range, or differences of more than one axis.

    >>> bounds = intervals([0.3, 0.1, 0.4, -0.2, 0.5, 0.25, 0.35, 0.15], clip=1.0, alpha=0.05)
    >>> round(float(bounds.low[-1]), 6), round(float(bounds.high[-1]), 6)
    (-0.355502, 0.603931)
    """
    positive("clip", clip, "It bounds every difference; the rule's default is 4 delta.")
    probability("alpha", alpha)
    stakes, log_weights = bet_grid(bets, weights)
    values = within(differences, clip)
    if values.ndim != 1:
        raise BadInput(f"differences must be one sequence of numbers; got an array of shape {values.shape}.")

    def lower(signed: Floats) -> Floats:
        share = lower_ends((signed + clip) / (2 * clip), math.log(2 / alpha), stakes, log_weights)
        return np.maximum.accumulate(np.maximum(clip * (2 * share - 1 - _OUTWARD), -clip))

    # K- of D at m is K+ of -D at -m, so the upper end is the lower end of the mirrored data, mirrored back.
    return Intervals(low=lower(values), high=-lower(-values))
