"""The study as its report sees it: per setting the arms, their averages, and what became of each comparison.

Everything is computed from the registration and the accepted results; averages are taken over the unbroken
prefix of the seed list, like the verdicts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkvlab import tasks
from qkvlab.contracts import Words
from qkvlab.errors import BadInput
from qkvlab.evidence import Verdict, intervals, paired
from qkvlab.report.titles import Title, title
from qkvlab.study.cells import Result
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.registration import rule
from qkvlab.study.verdicts import origin

Floats = NDArray[np.float64]
FLOORS = ("uniform", "frozen")
"""The floor and the placebo: they are there to lose."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One design in one setting.

    Attributes:
        design: its code; `words` says it.
        rate: the tuned learning rate, None as long as tuning goes on.
        runs: judged runs.
        mean: average of the judged metric over the runs that have one; NaN without any.
        coverage: average coverage; NaN where the task has none.
        diverged: judged runs that diverged.
        losses: mean, 10 % and 90 % of the training loss at evenly spaced steps, (3, points).
        steps: length of a run in optimiser steps.
    """

    design: str
    words: Words
    rate: float | None
    runs: int
    mean: float
    coverage: float
    diverged: int
    params: int
    flops: int
    cache: int
    losses: Floats
    steps: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """One design against the baseline; low, high and mean are those of looks 1 ... n."""

    arm: Arm
    baseline: Arm
    verdict: Verdict
    low: Floats
    high: Floats
    mean: Floats


@dataclass(frozen=True, eq=False)
class Setting:
    """One setting of one task."""

    key: Key
    title: Title
    words: Words
    metric: str
    delta: float
    clip: float
    chance: float
    facts: dict[str, Any]
    arms: dict[str, Arm]
    comparisons: tuple[Comparison, ...]
    main: bool

    @property
    def reached(self) -> bool:
        """Whether any judged run of it has finished."""
        return any(arm.runs for arm in self.arms.values())

    @property
    def covered(self) -> bool:
        """Whether coverage was measured."""
        return any(math.isfinite(arm.coverage) for arm in self.arms.values())

    @property
    def anchor(self) -> str:
        """A name that HTML takes as an id."""
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in "-".join(self.key))


@dataclass(frozen=True, eq=False)
class Study:
    """All of it."""

    registration: dict[str, Any]
    settings: tuple[Setting, ...]
    origin: dict[str, Any]
    aside: dict[str, int]

    @property
    def designs(self) -> list[str]:
        """Codes, in registered order."""
        return self.registration["designs"]

    @property
    def baseline(self) -> str:
        """Code of the design that all others are held against."""
        return self.registration["baseline"]

    @property
    def rates(self) -> list[float]:
        """Learning rates of all grids, before any extension."""
        return sorted({rate for setting in self.registration["tasks"] for rate in setting["tuning"]["rates"]})

    @property
    def reached(self) -> list[Setting]:
        """Settings with at least one judged run."""
        return [setting for setting in self.settings if setting.reached]

    @property
    def main(self) -> list[Setting]:
        """The settings that pictures show first: those the tasks name, else the first three."""
        return [s for s in self.reached if s.main] or self.reached[:3]

    @property
    def common(self) -> dict[str, Any]:
        """Facts that are the same in every setting."""
        every = [setting.facts for setting in self.settings]
        return {k: v for k, v in every[0].items() if all(k in f and f[k] == v for f in every)} if every else {}

    def particular(self, setting: Setting) -> dict[str, Any]:
        """Return the other facts of a setting."""
        return {k: v for k, v in setting.facts.items() if k not in self.common}

    def words(self, design: str) -> Words:
        """Say a design."""
        return _words(self.registration.get("words", {}).get(design), design)

    def comparisons(self) -> list[tuple[Setting, Comparison]]:
        """Every registered comparison."""
        return [(setting, each) for setting in self.settings for each in setting.comparisons]


def look(findings: Findings, aside: Iterable[tuple[Result, str]] = ()) -> Study:
    """Take a study in.

    Args:
        findings: what it knows.
        aside: what its store kept aside, with the reasons.
    """
    several = len({task for task, _ in findings.settings}) > 1
    settings = tuple(_setting(findings, key, several) for key in findings.settings)
    reasons = Counter(reason for _, reason in aside)
    return Study(findings.registration, settings, origin(findings), dict(sorted(reasons.items())))


def _setting(findings: Findings, key: Key, several: bool) -> Setting:
    facts = findings.settings[key]
    arms = {name: _arm(findings, key, name) for name in findings.designs(key)}
    baseline = arms[findings.registration["baseline"]]
    name = title(*key)
    if several:
        head = Words(f"{key[0]}:{name.head.zh}", f"{key[0]}: {name.head.en}")
        name = Title(head, name.variant, name.vectors)
    return Setting(
        key=key,
        title=name,
        words=_words(facts.get("words"), key[1]),
        metric=facts["metric"],
        delta=facts["delta"],
        clip=facts["clip"],
        chance=facts["chance"],
        facts=facts["facts"],
        arms=arms,
        comparisons=tuple(_compared(findings, key, arms[n], baseline) for n in findings.compared(key)),
        main=key[1] in _shown(key[0]),
    )


def _arm(findings: Findings, key: Key, name: str) -> Arm:
    facts = findings.settings[key]
    runs = _prefix(findings, key, name)
    cost = facts["arms"][name]
    return Arm(
        design=name,
        words=_words(findings.registration.get("words", {}).get(name), name),
        rate=findings.tuning(key).chosen.get(name),
        runs=len(runs),
        mean=_mean(run.judged(facts["metric"]) for run in runs),
        coverage=_mean(run.metrics.get("coverage", math.nan) for run in runs),
        diverged=sum(run.diverged for run in runs),
        params=cost["params"],
        flops=cost["flops_per_token"],
        cache=cost["cache_per_token"],
        losses=_band([run.losses for run in runs]),
        steps=max((run.steps for run in runs), default=0),
    )


def _compared(findings: Findings, key: Key, arm: Arm, baseline: Arm) -> Comparison:
    verdict = findings.verdict(key, arm.design)
    law = rule(findings.registration, findings.settings[key])
    mine, theirs = (findings.outcomes(key, each.design)[: verdict.n] for each in (arm, baseline))
    values = paired(mine, theirs, law.clip).values
    bounds = intervals(values, law.clip, law.alpha, law.bets, law.weights)
    running = np.cumsum(values) / np.arange(1, verdict.n + 1)
    return Comparison(arm, baseline, verdict, bounds.low, bounds.high, running)


def _prefix(findings: Findings, key: Key, name: str) -> list[Result]:
    runs = findings.judged(key, name)
    done = len(findings.outcomes(key, name))
    return [runs[seed] for seed in findings.registration["seeds"]["judge"][:done]]


def _band(losses: list[tuple[float, ...]]) -> Floats:
    """Mean, 10 % and 90 % over runs; a loss that is no number is left out of its step."""
    points = max(map(len, losses), default=0)
    if not points:
        return np.empty((3, 0))
    table = np.full((len(losses), points), np.nan)
    for row, run in zip(table, losses, strict=True):
        row[: len(run)] = run
    table[~np.isfinite(table)] = np.nan
    table = table[:, np.isfinite(table).any(axis=0)]
    return np.vstack([np.nanmean(table, axis=0)[None], np.nanquantile(table, [0.1, 0.9], axis=0)])


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _words(said: dict[str, str] | None, code: str) -> Words:
    return Words(said["zh"], said["en"]) if said else Words(code, code)


def _shown(task: str) -> tuple[str, ...]:
    try:
        return tasks.find(task).shown
    except BadInput:  # a task of another version; its numbers can be told all the same
        return ()
