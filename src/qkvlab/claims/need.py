"""What an open check still costs: how many more seeds, if the next ones are like those that were read."""

from __future__ import annotations

import math

import numpy as np

from qkvlab.claims.numbers import Numbers
from qkvlab.evidence import MOST, Rule, looks_needed


def seeds_left(numbers: Numbers, rule: Rule) -> int | None:
    """Return how many more seeds a check needs at the pace of those it has read; None where that is hopeless.

    Without seeds it is what the clearest data would need.
    """
    check, n = numbers.check, len(numbers)
    if not n:
        clearest = looks_needed(np.array([check.clip]), 0.0, check.clip, rule, up=True)
        return max(rule.min_seeds, math.ceil(clearest))
    m = 0.0 if check.of else check.threshold - check.centre
    values = numbers.clipped(check.threshold if check.of else 0.0) - check.centre
    least = min(looks_needed(values, m, check.clip, rule, up=up) for up in (True, False))
    return None if least > MOST else max(rule.min_seeds - n, math.ceil(least) - n, 1)
