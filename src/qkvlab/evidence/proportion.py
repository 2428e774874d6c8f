"""How often an arm diverges, with an interval that may be looked at after every run.

A run that diverged counts 1, another 0. Mapped to [-1, 1] that is one more bounded mean, so the betting
sequence covers it at all looks at once; a Clopper-Pearson interval would be valid at one look chosen
beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qkvlab.evidence.betting import DEFAULT_BETS, intervals


@dataclass(frozen=True)
class Rate:
    """``count`` of ``total`` runs, and the interval [low, high] in [0, 1] for the rate behind them."""

    count: int
    total: int
    low: float
    high: float


def rate(
    events: Sequence[bool],
    alpha: float,
    bets: Sequence[float] = DEFAULT_BETS,
    weights: Sequence[float] | None = None,
) -> Rate:
    """Return how often the event happened and the betting interval for its probability.

    With x = 1 where the event happened, D = 2x - 1 is clipped at R = 1 and has mean 2p - 1.

    Args:
        events: one entry per run, in the order of the seed list (the running intersection depends on it),
            [n].
        alpha: error rate over all looks, both sides together.
        bets: as for `intervals`.
        weights: as for `intervals`.

    Returns:
        The last look; [0, 1] where there is no run yet.

    Raises:
        BadInput: alpha, bets or weights outside their range.

    >>> found = rate([False] * 40, alpha=0.05)
    >>> found.count, found.low, round(found.high, 3)
    (0, 0.0, 0.122)
    """
    happened = tuple(bool(event) for event in events)
    low, high = _bounds(happened, alpha, tuple(bets), None if weights is None else tuple(weights))
    return Rate(count=sum(happened), total=len(happened), low=low, high=high)


# Most arms of a study never diverge, so the same question is asked once per comparison.
@lru_cache(maxsize=1024)
def _bounds(
    happened: tuple[bool, ...], alpha: float, bets: tuple[float, ...], weights: tuple[float, ...] | None
) -> tuple[float, float]:
    """Return the interval of the last look, as probabilities."""
    bounds = intervals(2.0 * np.array(happened) - 1.0, clip=1.0, alpha=alpha, bets=bets, weights=weights)
    if not len(bounds):
        return 0.0, 1.0
    return (1 + float(bounds.low[-1])) / 2, (1 + float(bounds.high[-1])) / 2
