"""Studies that never ran: what every arm would give is chosen so that a claim's checks come out as wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from qkvlab import claims
from qkvlab.claims.check import BASELINE, FLOOR, Check, Key
from qkvlab.claims.recorded import is_recorded
from qkvlab.evidence import DEFAULT_BETS, Outcome

DELTA = {"text": 0.02}
SEEDS = 120
Number = tuple[Key, str, str]
"""(task and setting, design, metric)"""


def needed(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """Return the settings of a registration that has every arm of the checks."""
    arms: dict[Key, list[str]] = {}
    for check in checks:
        for key, name in check.arms():
            if not is_recorded(key) and name not in arms.setdefault(key, []):
                arms[key].append(name)
    return [
        {"task": key[0], "setting": key[1], "delta": DELTA.get(key[0], 0.05), "arms": dict.fromkeys(names)}
        for key, names in arms.items()
    ]


def registration(checks: Iterable[Check], alpha: float = 0.05) -> dict[str, Any]:
    """Return the parts of a registration that claims read."""
    settings = needed(checks)
    return {"tasks": settings, "claims": claims.register(settings, alpha), "bets": list(DEFAULT_BETS)}


@dataclasses.dataclass
class Known:
    """What a finished study would know: every arm has a mean and the noise of its seeds."""

    registration: Mapping[str, Any]
    means: Mapping[Number, float]
    n: int = SEEDS
    noise: float = 0.004
    bars: frozenset[Key] = frozenset()
    lost: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def values(self, key: Key, name: str, metric: str) -> list[Outcome] | None:
        if (key, name, metric) not in self.means:
            return None
        rng = np.random.default_rng([len(name), sum(map(ord, "".join((*key, name, metric))))])
        values = self.means[key, name, metric] + self.noise * rng.standard_normal(self.n)
        gone = rng.random(self.n) < self.lost.get(name, 0.0)
        return [Outcome(float(v), bool(g)) for v, g in zip(values, gone, strict=True)]

    def answers(self) -> list[tuple[claims.Registered, claims.Answer]]:
        return [(asked, claims.answered(self, asked.check)) for asked in claims.registered(self.registration)]

    def barred(self, key: Key) -> bool:
        return key in self.bars

    def seconds(self, key: Key, name: str) -> float:
        return 1.5


def told(known: Known) -> dict[str, claims.Told]:
    """Tell every claim."""
    return {each.id: each for each in claims.told(known)}


def means(wanted: Iterable[tuple[Check, bool]]) -> dict[Number, float]:
    """Return a mean for every number so that each check (in plain units) says yes or no as wanted.

    The perceptron's rule: while some check does not say what is wanted by a good margin, its numbers are moved.
    """
    rows = [row for check, yes in wanted for row in _rows(check, yes)]
    found: dict[Number, float] = {number: 0.5 for weights, _, _ in rows for number in weights}
    for _ in range(5000):
        wrong = [row for row in rows if sum(w * found[x] for x, w in row[0].items()) - row[1] < row[2]]
        if not wrong:
            return found
        for weights, bound, margin in wrong:
            short = margin - (sum(w * found[x] for x, w in weights.items()) - bound)
            norm = sum(w * w for w in weights.values())
            for number, weight in weights.items():
                found[number] += (short + 0.1 * margin) * weight / norm
    raise AssertionError("no world is like that")


def _rows(check: Check, yes: bool) -> list[tuple[dict[Number, float], float, float]]:
    """Return (weights, bound, margin): the weighted sum must exceed the bound by the margin."""
    part = check.threshold if check.of else 0.0
    weights: dict[Number, float] = {}
    for share, terms in ((1.0, check.terms), (-part, check.of)):
        for term in terms:
            number = (term.key, term.design, term.metric)
            weights[number] = weights.get(number, 0.0) + share * term.weight
    sign = 1 if (check.asks == "above") == yes else -1
    bound = 0.0 if check.of else check.threshold
    rows = [({x: sign * w for x, w in weights.items()}, sign * bound, 0.2 * check.clip)]
    if check.floor:
        metric = check.terms[0].metric
        rows.append(({(check.floor, FLOOR, metric): 1.0, (check.floor, BASELINE, metric): -1.0}, 0, 0.9 * check.clip))
    return rows


def world(claim: claims.Claim, fails: Iterable[str] = (), **changes: Any) -> Known:
    """Return a study in which a claim holds everywhere; in the places named the first check says no."""
    study = registration(claim.checks())
    plain = {(r.place, r.check.id): r.check for r in claims.registered(study) if r.claim == claim.id}
    wanted = [
        (plain[place.id, check.id], place.id not in set(fails) or check != place.checks[0])
        for place in claim.places
        for check in place.checks
        if not is_recorded(check.terms[0].key)
    ]
    return Known(study, means(wanted), **changes)
