"""Successive halving of learning rates: where a rate can no longer be the one that is chosen, its trainings stop.

At a few rungs the rates of a design are held against each other by their training losses (Jamieson & Talwalkar, arXiv
1502.07943). How many go on is not fixed beforehand: stopping half of them whatever their losses stopped the rate that
was best in the end too often (`benchmarks/halving.py`). What is too far behind the best stops. Late in training lower
rates are given up sooner than higher ones: those are slow, these catch up when the schedule falls, which the beginning
does not show (Wu et al., arXiv 1803.02021). Those that go on keep the schedule with which they began. Only tuning knows
this rule: what is judged is trained to its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

STOPPED = "loss_when_stopped"
"""The one number of a training that was stopped: its loss before the rung. No other training has it."""

Curves = Mapping[tuple[int, float], Sequence[float]]
"""Training losses by (seed, rate): means over equal stretches, as far as each has come."""


@dataclass(frozen=True)
class Rung:
    """A place in training where rates are held against each other.

    Attributes:
        after: share of the training.
        lower: how far a rate below the best may be behind it, as a share of what the best has learned since it began.
        higher: the same for a rate above the best; from 1 on it must be worse than when it began.
    """

    after: float
    lower: float
    higher: float


@dataclass(frozen=True)
class Halving:
    """The rule, as it is registered.

    Attributes:
        rungs: in their order.
        window: share of the training over which a loss is averaged before a rung.
        enough: share of its first loss that the best must have lost; before that nobody but what diverged is hopeless.
    """

    rungs: tuple[Rung, ...]
    window: float
    enough: float

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> Halving | None:
        """Return the rule that stands in a registration; None where there is none."""
        return (
            None if told is None else cls(tuple(Rung(**rung) for rung in told["rungs"]), told["window"], told["enough"])
        )

    def told(self) -> dict[str, Any]:
        """Return it as it is registered: plain data, and in words."""
        return {
            "rungs": [asdict(rung) for rung in self.rungs],
            "window": self.window,
            "enough": self.enough,
            "rule": "at a rung a rate stops when its mean training loss before it, over the tuning seeds, is further "
            "behind that of the best rate than a share of what the best has learned, once that is enough, or when it "
            "diverged; what stops is never chosen, and nothing that is judged stops",
        }

    def at(self, whole: int) -> list[tuple[int, Rung]]:
        """Return after how many points of a curve with ``whole`` points each rung stands.

        >>> [point for point, _ in Halving((Rung(0.2, 0.8, 1.2), Rung(0.5, 0.1, 0.8)), 0.1, 0.2).at(50)]
        [10, 25]
        """
        found = {max(1, round(rung.after * whole)): rung for rung in self.rungs}
        return [(point, found[point]) for point in sorted(found) if point < whole]

    def losses(self, curves: Curves, point: int, whole: int) -> dict[tuple[int, float], float]:
        """Return the mean loss before a rung of every training that has come so far; NaN where it diverged."""
        width = min(point, max(1, round(self.window * whole)))
        return {run: _before(curve, point, width) for run, curve in curves.items() if len(curve) >= point}

    def staying(self, curves: Curves, point: int, rung: Rung, whole: int) -> set[float]:
        """Return the rates that go on beyond a rung, of all that have come so far.

        Where every rate has diverged, none is better than another and all go on.

        Args:
            curves: of all rates, also of those that stopped earlier or are long done.
            point: points of a curve up to the rung.
            rung: by which they are judged.
            whole: points of a whole curve.
        """
        losses = self.losses(curves, point, whole)
        rates = sorted({rate for _, rate in losses})
        scores = {each: _mean([loss for (_, rate), loss in losses.items() if rate == each]) for each in rates}
        sound = {rate: score for rate, score in scores.items() if math.isfinite(score)}
        if not sound:
            return set(rates)
        best = min(sound, key=lambda rate: sound[rate])
        began = min(_mean([curve[0] for (_, rate), curve in curves.items() if rate == each]) for each in rates)
        learned = began - sound[best]
        if learned < self.enough * began:
            return set(sound)

        def close(rate: float) -> bool:
            share = rung.lower if rate < best else rung.higher
            return sound[rate] <= sound[best] + share * learned

        return set(filter(close, sound))

    def least(self, rates: int) -> float:
        """Return the smallest share of the steps of so many rates that can be left: all but one stop at the first rung.

        >>> round(Halving((Rung(0.2, 0.8, 1.2),), 0.1, 0.2).least(4), 3)
        0.4
        """
        first = self.rungs[0].after
        return (rates * first + 1 - first) / rates


@dataclass(frozen=True)
class Contest:
    """What the rates of one order are held against.

    Attributes:
        halving: the rule.
        rivals: (seed, rate, losses) of the design's rates that were trained before, when the grid was narrower.
    """

    halving: Halving
    rivals: tuple[tuple[int, float, tuple[float, ...]], ...] = ()

    def staying(self, curves: Curves, point: int, rung: Rung, whole: int) -> set[float]:
        """Return the rates of ``curves`` that go on; see `Halving.staying`."""
        every = {(seed, rate): losses for seed, rate, losses in self.rivals} | dict(curves)
        return self.halving.staying(every, point, rung, whole) & {rate for _, rate in curves}


def _before(curve: Sequence[float], point: int, width: int) -> float:
    """Return the mean of the last ``width`` points of a curve's first ``point``."""
    return math.fsum(curve[point - width : point]) / width if all(map(math.isfinite, curve[:point])) else math.nan


def _mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.inf
