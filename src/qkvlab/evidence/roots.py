"""Where the wealth reaches its target: the lower ends of all looks together, by Newton's method.

Axes: b bet, n look, i difference.

Write c = (D + R) / 2R and s = -log((m + R) / 2R), so that c and exp(-s) are shares of the range in [0, 1].
Then

    1 + b (D - m) / (R + m) = (1 - b) + b c exp(s)

and the wealth is a polynomial in exp(s) without a negative coefficient. The logarithm of such a polynomial is
a convex, rising function of s. Newton's steps on a convex rising function, begun at the right of the root,
never jump over it: every iterate is already a valid lower end, and no bracket is needed.
"""

from __future__ import annotations

import numpy as np

from qkvlab.evidence.checks import Floats

# exp(-64) of the range is far below the spacing of floats next to -R: a root beyond is no root.
_FARTHEST = 64.0
# Seven steps are usual. The bound only guards the loop: stopping early leaves the ends wide, never wrong.
_STEPS = 100
_TOLERANCE = 1e-13
# Looks are worked through in blocks, so that thousands of seeds do not need gigabytes.
_CELLS = 1 << 20


def lower_ends(shares: Floats, log_target: float, bets: Floats, log_weights: Floats) -> Floats:
    """Return for each look the claimed mean at which K+ equals the target, as a share of the range.

    Args:
        shares: (D + R) / 2R, [n], each in [0, 1].
        log_target: logarithm of the wealth that refuses a claim, above 0.
        bets: [b], each in (0, 1).
        log_weights: logarithm of the weights, [b].

    Returns:
        (L_n + R) / 2R for every look, [n]; 0 where even claims next to -R are not refused.
    """
    looks = shares.size
    rows = max(1, _CELLS // max(1, looks * bets.size))
    ends = np.zeros(looks)
    for first in range(0, looks, rows):
        last = min(first + rows, looks)
        ends[first:last] = _block(shares[:last], first, log_target, bets, log_weights)
    return ends


def _block(shares: Floats, first: int, log_target: float, bets: Floats, log_weights: Floats) -> Floats:
    """Return the ends for the looks first + 1 ... n, where n = shares.size."""
    count = np.arange(first + 1, shares.size + 1)
    seen = (np.arange(shares.size) < count[:, None]).astype(np.float64)  # [n, i]: look n has seen difference i
    s = np.full(count.size, _FARTHEST)
    excess, slope = _log_wealth(s, shares, seen, count, bets, log_weights)
    reached = excess > log_target
    for _ in range(_STEPS):
        step = np.where(reached, (excess - log_target) / np.where(reached, slope, 1.0), 0.0)
        s -= step
        if not (step > _TOLERANCE).any():
            break
        excess, slope = _log_wealth(s, shares, seen, count, bets, log_weights)
    return np.where(reached, np.exp(-s), 0.0)


def _log_wealth(
    s: Floats, shares: Floats, seen: Floats, count: np.ndarray, bets: Floats, log_weights: Floats
) -> tuple[Floats, Floats]:
    """Return log K+ at each look's own s and its derivative in s, both [n]."""
    kept = (1 - bets)[:, None]
    factors = kept[:, :, None] + bets[:, None, None] * (np.exp(s)[:, None] * shares)  # [b, n, i]
    purses = log_weights[:, None] + np.einsum("bni,ni->bn", np.log(factors), seen)
    # d log(factor) / ds = 1 - (1 - b) / factor
    slopes = count - kept * np.einsum("bni,ni->bn", 1 / factors, seen)
    largest = purses.max(axis=0)
    parts = np.exp(purses - largest)
    total = parts.sum(axis=0)
    return largest + np.log(total), (parts * slopes).sum(axis=0) / total
