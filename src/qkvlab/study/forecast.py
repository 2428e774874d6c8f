"""How many trainings a study still takes: at least, at most, and as far as anyone can expect."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from qkvlab.evidence import seeds_needed
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.price import seeds_left
from qkvlab.study.registration import EXTENSIONS, FLOOR, rule

Known = dict[tuple[str, str, str], dict[str, Any]]
"""What a record says of (task, setting, design): rates tried, seeds judged at which alpha, seconds of a training."""
TAKEN = 0.85
"""Share of the tuning steps that are left where hopeless rates stop (`benchmarks/halving.py`)."""


@dataclass(frozen=True)
class Cells:
    """Trainings that are still to run.

    Attributes:
        least: if every open comparison is decided as early as it can be.
        expected: if seeds are as those of the record, of this store, or as the clearest equivalence.
        most: if the grid grows as often as it may and every seed is spent.
        done: stored already.
    """

    least: int
    expected: int
    most: int
    done: int

    def __add__(self, other: Cells) -> Cells:
        return Cells(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


NONE = Cells(0, 0, 0, 0)


@dataclass(frozen=True)
class Share:
    """Share of their steps that the tuning trainings of a design take.

    Attributes:
        least: if all rates but one, and all that are added, stop at the first rung.
        expected: as in the record.
        most: if none stops.
    """

    least: float = 1.0
    expected: float = 1.0
    most: float = 1.0


def tuning(findings: Findings, key: Key, known: Known) -> dict[str, Cells]:
    """Return the tuning cells of every design of a setting."""
    state, names, setting = findings.tuning(key), findings.designs(key), findings.settings[key]
    seeds, first = len(setting["tuning"]["seeds"]), len(setting["tuning"]["rates"])
    most = first + 2 * EXTENSIONS if first > 1 else first
    stored = Counter(c.design for c in findings.results if (c.task, c.setting, c.role) == (*key, "tune"))
    found = {}
    for name in names:
        done = stored[name]
        if state.chosen:
            found[name] = Cells(0, 0, 0, done)
            continue
        least = sum(cell.design == name for cell in state.missing)
        # half of the recorded settings grew by one rate
        usual = known[*key, name]["rates"] if (*key, name) in known else first + (first > 1)
        at_most = max(least, most * seeds - done)
        found[name] = Cells(least, min(max(least, usual * seeds - done), at_most), at_most, done)
    return found


def staying(findings: Findings, key: Key) -> Share:
    """Return the share of the steps that tuning still takes in a setting."""
    state, halving = findings.tuning(key), findings.halving
    if halving is None or not state.contested:
        return Share()
    narrow = list(state.rates) == findings.settings[key]["tuning"]["rates"]
    least = halving.least(len(state.rates)) if narrow else halving.rungs[0].after
    return Share(least, max(least, TAKEN), 1.0)


def judging(findings: Findings, key: Key, known: Known) -> dict[str, Cells]:
    """Return the judging cells of every design of a setting."""
    seeds = len(findings.registration["seeds"]["judge"])
    law = rule(findings.registration, findings.settings[key])
    first, equal = seeds_needed(law.alpha, law.delta, law.clip, law.bets)
    names, baseline = findings.designs(key), findings.registration["baseline"]
    tuned = bool(findings.tuning(key).chosen)
    may_miss = findings.settings[key]["bar"] is not None and not tuned
    least, expected, most = (dict.fromkeys(names, 0) for _ in range(3))
    for name in findings.compared(key):
        verdict = findings.verdict(key, name)
        if verdict.decided:
            continue
        guess = _guess(findings, key, name, known, equal)
        most[FLOOR] = seeds  # an equivalence may wait for it
        for arm in (name, baseline):
            most[arm] = seeds
            expected[arm] = max(expected[arm], min(guess, seeds))
            if not may_miss and verdict.reason != "waiting for the floor":
                least[arm] = max(least[arm], min(max(first, verdict.n + 1), seeds))
    for asked, said in findings.answers():
        arms = [arm for arm in asked.check.arms() if arm[0] == key and arm[1] in most]
        if said.waits and not findings.barred(key):
            for _, arm in arms:
                most[arm] = seeds
                expected[arm] = max(expected[arm], min(_recorded(known, key, arm, law.alpha), seeds))
    found = {}
    for name in names:
        done = len(findings.judged(key, name))
        bounds = [max(0, goal[name] - done) for goal in (least, expected, most)]
        found[name] = Cells(bounds[0], min(max(bounds[0], bounds[1]), bounds[2]), bounds[2], done)
    return found


def _guess(findings: Findings, key: Key, name: str, known: Known, equal: int) -> int:
    """Return how many seeds of a design a comparison is likely to take in all."""
    verdict, law = findings.verdict(key, name), rule(findings.registration, findings.settings[key])
    if verdict.n:
        more = seeds_left(findings, key, name)
        return len(findings.registration["seeds"]["judge"]) if more is None else verdict.n + more
    return _recorded(known, key, name, law.alpha) or equal


def _recorded(known: Known, key: Key, name: str, alpha: float) -> int:
    """Return the seeds that the record took, more where alpha is smaller now; 0 where it took none."""
    row = known.get((*key, name))
    if row is None:
        return 0
    # what a bet must win grows with log(2 / alpha)
    return math.ceil(row["judged"] * math.log(2 / alpha) / math.log(2 / row["alpha"]))
