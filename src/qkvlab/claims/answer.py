"""From the judged runs of a check to yes, no or open, with an interval that holds however often one looks.

The seeds are read look by look on the finished prefix of the seed list, and the first look that says yes or no is the
last one that is read, as for verdicts: what comes later never changes what was said.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from qkvlab.claims.check import BASELINE, FLOOR, Check
from qkvlab.claims.need import seeds_left
from qkvlab.claims.numbers import Numbers, Runs, gather
from qkvlab.evidence import Rule, beats_floor

Says = Literal["yes", "no", "open"]
Obstacle = Literal[
    "",  # answered
    "few",  # fewer seeds than the least look
    "wide",  # the threshold lies inside the interval
    "floor waits",  # the seeds say yes, but not yet whether there was anything to lose
    "floor",  # there was nothing to lose: QKV is not ahead of uniform
    "diverged",  # too many runs diverged
    "bar",  # QKV missed the bar of the task, so nothing was judged
    "unmeasured",  # no run holds this number
]


@dataclass(frozen=True)
class Answer:
    """What a check found. Numbers are those of look ``n``.

    Attributes:
        says: the answer.
        obstacle: why it is open; "" for a yes or a no.
        n: seeds read.
        estimate: mean of the clipped numbers, or the part; NaN without seeds.
        low: lower end of the interval.
        high: upper end.
        levels: mean of each term's own number (then of the second sum's), diverged runs left out; NaN without any.
        lost: the largest share of diverged runs among the arms.
        more: how many more seeds an open check needs if the next ones are like these; None where nobody can tell.
        minutes: what those seeds take one process; None where `more` is or nothing was timed.
    """

    says: Says
    obstacle: Obstacle
    n: int
    estimate: float
    low: float
    high: float
    levels: tuple[float, ...]
    lost: float = 0.0
    more: int | None = None
    minutes: float | None = None

    @property
    def waits(self) -> bool:
        """Whether more seeds may answer it."""
        return self.obstacle in ("few", "wide", "floor waits")

    def row(self) -> dict[str, Any]:
        """Return plain JSON data; null for NaN."""
        row = asdict(self)
        return {**row, "estimate": _known(self.estimate), "levels": [_known(level) for level in self.levels]}

    @classmethod
    def read(cls, row: dict[str, Any]) -> Self:
        """Return the answer of a `row`."""
        levels = tuple(math.nan if level is None else level for level in row["levels"])
        estimate = math.nan if row["estimate"] is None else row["estimate"]
        return cls(**{**row, "estimate": estimate, "levels": levels})


def answer(check: Check, runs: Runs, rule: Rule, *, barred: bool = False) -> Answer:
    """Answer a check.

    Args:
        check: in units of its metric.
        runs: where the outcomes come from.
        rule: alpha of this check, bets, the least look, the largest share of diverged runs, the gate of the floor.
        barred: whether QKV missed the bar in a setting of this check.
    """
    assert not check.in_deltas, "a registered check holds plain numbers"
    numbers = None if barred else gather(check, runs)
    if numbers is None:
        low, high = (-1.0, 1.0) if check.of else (check.centre - check.clip, check.centre + check.clip)
        return Answer("open", "bar" if barred else "unmeasured", 0, math.nan, low, high, ())
    sides = numbers.sides(rule)
    told = np.flatnonzero(sides[rule.min_seeds - 1 :])
    look = int(told[0]) + rule.min_seeds if told.size else len(numbers)
    side = int(sides[look - 1]) if told.size else 0
    read = numbers.upto(look)
    low, high = read.interval(rule)
    found = Answer(
        says="open" if side == 0 else "yes" if (side > 0) == (check.asks == "above") else "no",
        obstacle="",
        n=look,
        estimate=read.estimate(),
        low=low,
        high=high,
        levels=read.levels(),
        lost=float(read.lost.mean(axis=1).max()) if look else 0.0,
    )
    return _checked(found, read, runs, rule)


def _checked(found: Answer, read: Numbers, runs: Runs, rule: Rule) -> Answer:
    """Name what is in the way of an answer, if anything is."""
    check = read.check
    if found.says == "open":
        few = found.n < rule.min_seeds
        return replace(found, obstacle="few" if few else "wide", more=seeds_left(read, rule))
    if found.lost > rule.max_diverged and (check.floor or not check.is_loss):
        return replace(found, says="open", obstacle="diverged")
    if found.says == "yes" and check.floor:
        metric = check.terms[0].metric
        state = beats_floor(runs(check.floor, BASELINE, metric) or [], runs(check.floor, FLOOR, metric) or [], rule)
        if state != "beaten":
            waits = state == "waiting"
            return replace(found, says="open", obstacle="floor waits" if waits else "floor", more=8 if waits else None)
    return found


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
