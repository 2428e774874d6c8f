"""From records to rates and verdicts: everything a study knows, computed from its registration and results alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

from qkvlab import claims
from qkvlab.evidence import Outcome, Verdict, decide, leading, not_counted
from qkvlab.study.cells import Cell, Result, Role
from qkvlab.study.registration import FLOOR, rule
from qkvlab.training.halving import Contest, Halving

Key = tuple[str, str]
"""(task, setting)"""
Where = TypeVarTuple("Where")
Said = TypeVar("Said")


@dataclass(frozen=True)
class Tuning:
    """Where the choice of learning rates of one setting stands.

    Attributes:
        rates: the grid, extensions included.
        missing: tuning cells that have not been run.
        chosen: rate per design, once nothing is missing.
        contested: whether rates are held against each other while they train, all of a design at once.
    """

    rates: tuple[float, ...]
    missing: tuple[Cell, ...]
    chosen: dict[str, float]
    contested: bool = False


class Findings:
    """What a study knows so far: an index over its results."""

    def __init__(self, registration: dict[str, Any], results: Iterable[Result] = ()) -> None:
        """Begin with the results of the store."""
        self.registration = registration
        self.settings = {(s["task"], s["setting"]): s for s in registration["tasks"]}
        self.halving = Halving.of(registration["tuning"].get("halving"))
        self.results: dict[Cell, Result] = {}
        self._names = {
            key: [name for name in registration["designs"] if name in setting["arms"]]
            for key, setting in self.settings.items()
        }
        self._tunings: dict[Key, Tuning] = {}
        self._judged: dict[tuple[Key, str], dict[int, Result]] = {}
        self._outcomes: dict[tuple[Key, str], list[Outcome]] = {}
        self._said: dict[tuple[Any, ...], dict[Callable[..., Any], Any]] = {}
        self.checks = claims.registered(registration)
        self._checked_in: dict[Key, set[int]] = {}
        for i, asked in enumerate(self.checks):
            for where, _ in asked.check.arms():
                self._checked_in.setdefault(where, set()).add(i)
        self._answers: dict[int, claims.Answer] = {}
        self.add(results)

    def add(self, results: Iterable[Result]) -> None:
        """Take new results in."""
        fresh: dict[Key, set[tuple[Role, str]]] = {}
        for result in results:
            cell = result.cell
            self.results[cell] = result
            fresh.setdefault((cell.task, cell.setting), set()).add((cell.role, cell.design))
        for key, arms in fresh.items():
            self._forget(key, arms)

    def _forget(self, key: Key, arms: set[tuple[Role, str]]) -> None:
        """Forget what new results of these designs may change, and nothing else: studies have thousands of designs."""
        self._said.pop((key,), None)
        for i in self._checked_in.get(key, ()):
            self._answers.pop(i, None)
        changed = {name for role, name in arms if role == "judge"}
        if any(role == "tune" for role, _ in arms):
            before = self._tunings.pop(key, None)
            # nothing is judged until rates are chosen, so the choice is all of tuning that matters to a comparison
            if before is None or before.chosen != self.tuning(key).chosen:
                changed.update(self.designs(key))
        for name in changed:
            self._judged.pop((key, name), None)
            self._outcomes.pop((key, name), None)
        shared = not changed.isdisjoint((self.registration["baseline"], FLOOR))
        for name in self.designs(key) if shared else changed:
            self._said.pop((key, name), None)

    def once(self, function: Callable[[Findings, *Where], Said], *where: *Where) -> Said:
        """Return what a function says of a setting or of a comparison, and ask it again only when results changed that.

        Args:
            function: takes these findings and ``where``. Of a comparison it may read the results of its design, of the
                baseline and of the floor; of a setting all that are the setting's.
            where: (task, setting), and the design that is compared.
        """
        said = self._said.setdefault(where, {})
        if function not in said:
            said[function] = function(self, *where)
        return said[function]

    def tuning(self, key: Key) -> Tuning:
        """Return the state of the rates of a setting; rates are chosen for all designs at once."""
        if key not in self._tunings:
            self._tunings[key] = self._tune(key)
        return self._tunings[key]

    def _tune(self, key: Key) -> Tuning:
        rates = list(self.settings[key]["tuning"]["rates"])
        tie = self.registration["tuning"]["tie"] * self.settings[key]["delta"]
        names = self.designs(key)
        contested = self.halving is not None and len(rates) > 1
        for round_ in range(self.registration["tuning"]["extensions"] + 1):
            missing = [c for name in names for c in self._tuning_cells(key, name, rates) if c not in self.results]
            if missing:
                return Tuning(tuple(rates), tuple(missing), {}, contested)
            chosen = {name: choose(self._tuned(key, name, rates), tie) for name in names}
            wider = extend(rates, chosen.values())
            if wider == rates or round_ == self.registration["tuning"]["extensions"]:
                return Tuning(tuple(rates), (), chosen, contested)
            rates = wider
        raise AssertionError("the loop returns in its last round")

    def contest(self, group: Collection[Cell]) -> Contest | None:
        """Return what the rates of tuning cells are held against while they train; None where all train to their end.

        Args:
            group: cells of one design in one setting.
        """
        one = next(iter(group))
        key = one.task, one.setting
        tuning = self.tuning(key)
        if one.role != "tune" or self.halving is None or not tuning.contested:
            return None
        cells = [c for c in self._tuning_cells(key, one.design, tuning.rates) if c in self.results and c not in group]
        return Contest(self.halving, tuple((c.seed, c.lr, self.results[c].losses) for c in cells))

    def _tuning_cells(self, key: Key, name: str, rates: Sequence[float]) -> list[Cell]:
        seeds = self.settings[key]["tuning"]["seeds"]
        return [Cell(*key, name, "tune", seed, rate) for rate in rates for seed in seeds]

    def _tuned(self, key: Key, name: str, rates: list[float]) -> dict[float, float]:
        metric = self.settings[key]["metric"]
        means = {}
        for rate in rates:
            runs = [self.results[c] for c in self._tuning_cells(key, name, [rate])]
            if any(run.stopped for run in runs):
                continue
            values = [math.inf if r.diverged else r.judged(metric) for r in runs]
            means[rate] = math.inf if any(math.isnan(v) for v in values) else sum(values) / len(values)
        return means

    def judged(self, key: Key, name: str) -> dict[int, Result]:
        """Return the judged runs of a design at its chosen rate, by seed."""
        if (key, name) not in self._judged:
            rate = self.tuning(key).chosen.get(name)
            seeds = self.registration["seeds"]["judge"] if rate is not None else ()
            cells = (Cell(*key, name, "judge", seed, rate) for seed in seeds if rate is not None)
            self._judged[key, name] = {c.seed: self.results[c] for c in cells if c in self.results}
        return self._judged[key, name]

    def outcomes(self, key: Key, name: str) -> list[Outcome]:
        """Return the outcomes of a design on the finished prefix of the seed list."""
        if (key, name) not in self._outcomes:
            metric = self.settings[key]["metric"]
            found = {s: Outcome(r.judged(metric), r.diverged) for s, r in self.judged(key, name).items()}
            self._outcomes[key, name] = leading(self.registration["seeds"]["judge"], found)
        return self._outcomes[key, name]

    def values(self, key: Key, name: str, metric: str) -> list[Outcome] | None:
        """Return any measured number of a design on the finished prefix, for claims.

        None where no run holds it, so that nobody waits for a number that never comes.
        """
        runs = self.judged(key, name)
        if runs and not any(metric in run.metrics for run in runs.values()):
            return None
        found = {s: Outcome(r.judged(metric), r.diverged) for s, r in runs.items()}
        return leading(self.registration["seeds"]["judge"], found)

    def answers(self) -> list[tuple[claims.Registered, claims.Answer]]:
        """Return every registered check with its answer so far."""
        for i, asked in enumerate(self.checks):
            if i not in self._answers:
                self._answers[i] = claims.answered(self, asked.check)
        return [(asked, self._answers[i]) for i, asked in enumerate(self.checks)]

    def seconds(self, key: Key, name: str) -> float:
        """Return the mean seconds of a judged run; NaN before the first."""
        runs = self.judged(key, name).values()
        return math.fsum(run.seconds for run in runs) / len(runs) if runs else math.nan

    def verdict(self, key: Key, name: str) -> Verdict:
        """Return what is known of a design against the baseline in a setting."""
        return self.once(Findings._verdict, key, name)

    def _verdict(self, key: Key, name: str) -> Verdict:
        law = rule(self.registration, self.settings[key])
        if self.barred(key):
            return not_counted(law)
        baseline, floor = (self.outcomes(key, arm) for arm in (self.registration["baseline"], FLOOR))
        return decide(self.outcomes(key, name), baseline, floor, law)

    def tuned(self, key: Key, name: str) -> float:
        """Return the judged metric of a design in tuning, at its chosen rate; NaN as long as none is chosen."""
        rate = self.tuning(key).chosen.get(name)
        return math.nan if rate is None else self._tuned(key, name, [rate])[rate]

    def barred(self, key: Key) -> bool:
        """Whether the baseline missed the setting's bar in tuning, so that nothing is judged there."""
        bar, tuned = self.settings[key]["bar"], self.tuned(key, self.registration["baseline"])
        return bar is not None and tuned > bar  # NaN, not tuned yet, is no miss

    def designs(self, key: Key) -> list[str]:
        """Return the designs that run in a setting, in registered order."""
        return self._names[key]

    def compared(self, key: Key) -> list[str]:
        """Return the designs that are compared with the baseline in a setting."""
        return [name for name in self.designs(key) if name != self.registration["baseline"]]

    def comparisons(self) -> list[tuple[Key, str, Verdict]]:
        """Return every registered comparison with its verdict so far."""
        return [(key, name, self.verdict(key, name)) for key in self.settings for name in self.compared(key)]


def choose(means: dict[float, float], tie: float) -> float:
    """Return the rate with the least mean; rates within ``tie`` of it share the place and the middle one is taken.

    >>> choose({0.001: 0.5, 0.003: 0.1, 0.01: 0.1, 0.03: 0.1}, tie=0.005)
    0.01
    """
    best = min(means.values())
    tied = [rate for rate in sorted(means) if means[rate] <= best + tie]
    return tied[(len(tied) - 1) // 2]


def extend(rates: list[float], chosen: Iterable[float]) -> list[float]:
    """Add the next rate beyond every edge that some design chose.

    >>> extend([0.001, 0.003, 0.01], [0.003, 0.01])
    [0.001, 0.003, 0.01, 0.0333333]
    """
    if len(rates) < 2:
        return rates
    wider = list(rates)
    picked = set(chosen)
    if rates[-1] in picked:
        wider.append(float(f"{rates[-1] * rates[-1] / rates[-2]:.6g}"))
    if rates[0] in picked:
        wider.insert(0, float(f"{rates[0] * rates[0] / rates[1]:.6g}"))
    return wider
