"""What an open check still costs: how many more seeds, if the next ones are like those that were read."""

from __future__ import annotations

import math

import numpy as np

from qkvlab.claims.numbers import Numbers
from qkvlab.evidence import Rule

MOST = 100_000
"""More seeds than this are "nobody can tell": the mean stands on the threshold as far as anyone can see."""


def seeds_left(numbers: Numbers, rule: Rule) -> int | None:
    """Return how many more seeds a check needs at the pace of those it has read; None where that is hopeless.

    Each bet multiplies its purse by the same factor on average, and the mixture needs the best bet's purse to pay for
    the others: log(2 / alpha) + log(bets). Without seeds it is what the clearest data would need.
    """
    check, n = numbers.check, len(numbers)
    target = math.log(2 / rule.alpha) + math.log(len(rule.bets))
    bets = np.asarray(rule.bets)[:, None]
    if not n:
        return max(rule.min_seeds, math.ceil(target / math.log1p(max(rule.bets))))
    m = 0.0 if check.of else check.threshold - check.centre
    values = numbers.clipped(check.threshold if check.of else 0.0) - check.centre
    up = np.log1p(bets * (values - m) / (check.clip + m)).mean(axis=1).max()
    down = np.log1p(bets * (m - values) / (check.clip - m)).mean(axis=1).max()
    pace = float(max(up, down))
    if pace <= 0 or target / pace > MOST:
        return None
    return max(rule.min_seeds - n, math.ceil(target / pace) - n, 1)
