"""How many more seeds an open comparison needs, if those to come are like those that were read."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qkvlab.evidence import MOST, Rule, Verdict, looks_needed, paired, seeds_needed
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.registration import FLOOR, rule


def arms_of(findings: Findings, name: str, verdict: Verdict) -> tuple[str, str]:
    """Return the two designs whose next seeds an open comparison waits for."""
    return FLOOR if verdict.reason == "waiting for the floor" else name, findings.registration["baseline"]


def seeds_left(findings: Findings, key: Key, name: str) -> int | None:
    """Estimate how many more seeds an open comparison needs; None where nobody can tell."""
    return findings.once(_seeds_left, key, name)


def _seeds_left(findings: Findings, key: Key, name: str) -> int | None:
    law = rule(findings.registration, findings.settings[key])
    one, other = arms_of(findings, name, findings.verdict(key, name))
    mine, theirs = findings.outcomes(key, one), findings.outcomes(key, other)
    n = min(len(mine), len(theirs))
    values = paired(mine[:n], theirs[:n], law.clip).values
    return more_seeds(values, law, [law.gate] if one != name else None)


def more_seeds(values: NDArray[np.float64], law: Rule, edges: list[float] | None = None) -> int | None:
    """Estimate how many more seeds some differences need until a rule decides them.

    Args:
        values: clipped differences, [n].
        law: delta, clip, alpha and bets.
        edges: means to be refused on either side; unless given, 0, or both of plus and minus delta.

    Returns:
        At least 1; None beyond `MOST`.
    """
    n = len(values)
    if not n:
        return seeds_needed(law.alpha, law.delta, law.clip, law.bets)[0]

    def refused(m: float, *, up: bool) -> float:
        return looks_needed(values, m, law.clip, law, up=up)

    if edges is None:
        both = max(refused(-law.delta, up=True), refused(law.delta, up=False))
        ways = [refused(0.0, up=True), refused(0.0, up=False), both]
    else:
        ways = [refused(edge, up=up) for edge in edges for up in (True, False)]
    least = max(min(ways), law.min_seeds)
    return None if least > MOST else max(1, math.ceil(least) - n)
