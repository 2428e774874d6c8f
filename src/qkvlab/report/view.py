"""The study as its report sees it: per setting the arms, their averages, and what became of each comparison."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkvlab.claims import Told
from qkvlab.contracts import Words
from qkvlab.evidence import Verdict
from qkvlab.report.titles import TaskWords, Title
from qkvlab.study.decisions import Key

Floats = NDArray[np.float64]
FLOORS = ("uniform", "frozen")
"""The floor and the placebo: they are there to lose."""

_PLAIN = re.compile(r"[^A-Za-z0-9-]")


@dataclass(frozen=True, eq=False)
class Arm:
    """One design in one setting.

    Attributes:
        design: its code; `words` says it.
        place: among the designs of the study; it gives the design one colour in all pictures.
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
    place: int
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
    """One design against the baseline.

    Attributes:
        arm: the design.
        baseline: what it is held against.
        verdict: what is known.
        low: lower ends of the interval at looks 1 ... n.
        high: upper ends.
        mean: running means.
        anchor: its id on the page.
        obstacle: what an undecided comparison waits for; None for a decided one.
    """

    arm: Arm
    baseline: Arm
    verdict: Verdict
    low: Floats
    high: Floats
    mean: Floats
    anchor: str
    obstacle: Words | None


@dataclass(frozen=True, eq=False)
class Setting:
    """One setting of one task.

    Attributes:
        key: (task, setting).
        title: its name among the settings of its task.
        full: its name among those of all tasks of the study.
        words: what is asked.
        bar: the metric that the baseline must reach in tuning; None for no bar.
        tuned: the metric that the baseline reached there; NaN as long as it is tuned.
        barred: whether it missed the bar, so that nothing is judged.
        facts: registered numbers.
        main: whether pictures show it first.
    """

    key: Key
    title: Title
    full: Title
    words: Words
    metric: str
    delta: float
    clip: float
    chance: float
    bar: float | None
    tuned: float
    barred: bool
    facts: dict[str, Any]
    arms: dict[str, Arm]
    comparisons: tuple[Comparison, ...]
    main: bool

    @property
    def reached(self) -> bool:
        """Whether any judged run of it has finished."""
        return any(arm.runs for arm in self.arms.values())

    @property
    def match(self) -> str:
        """Which budget is made equal across designs."""
        return self.facts.get("match", "none")

    @property
    def unmatched(self) -> dict[str, Any]:
        """Its registered numbers but for what is made equal: by these, settings with and without it are the same."""
        return {name: value for name, value in self.facts.items() if name != "match"}

    def width(self, design: str, plain: Setting) -> int | None:
        """Return the feed-forward width of a design, from the registered numbers; None where there is no such part.

        Args:
            design: that runs here.
            plain: the same setting where nothing is made equal.
        """
        if "hidden" not in self.facts or design not in plain.arms:
            return None
        channel = 2 * self.facts["d_model"] * self.facts["layers"]
        return self.facts["hidden"] + (self.arms[design].params - plain.arms[design].params) // channel

    @property
    def covered(self) -> bool:
        """Whether coverage was measured."""
        return any(math.isfinite(arm.coverage) for arm in self.arms.values())

    @property
    def anchor(self) -> str:
        """A name that HTML takes as an id; different settings have different ones."""
        return anchored(*self.key)

    def against(self, design: str) -> Comparison | None:
        """Return the comparison of a design with the baseline; None where it does not run."""
        return next((each for each in self.comparisons if each.arm.design == design), None)


@dataclass(frozen=True, eq=False)
class Chapter:
    """The settings of one task.

    Attributes:
        task: its code.
        words: the task in words.
        settings: in the order in which they run.
    """

    task: str
    words: TaskWords
    settings: tuple[Setting, ...]

    @property
    def budgets(self) -> list[tuple[Setting, ...]]:
        """Settings that exist with and without equal budgets, side by side, the one without first."""
        found: dict[Key, list[Setting]] = {}
        for setting in self.settings:
            plain = next((s for s in self.settings if s.match == "none" and s.unmatched == setting.unmatched), None)
            if setting.match != "none" and plain is not None:
                found.setdefault(plain.key, [plain]).append(setting)
        return [tuple(group) for group in found.values()]

    @property
    def anchor(self) -> str:
        """A name that HTML takes as an id."""
        return anchored("task", self.task)

    @property
    def reached(self) -> list[Setting]:
        """Settings with at least one judged run."""
        return [setting for setting in self.settings if setting.reached]

    @property
    def common(self) -> dict[str, Any]:
        """Facts that are the same in every setting."""
        first, *others = [setting.facts for setting in self.settings]
        return {k: v for k, v in first.items() if all(k in f and f[k] == v for f in others)}

    def particular(self, setting: Setting) -> dict[str, Any]:
        """Return the other facts of a setting."""
        return {k: v for k, v in setting.facts.items() if k not in self.common}


@dataclass(frozen=True, eq=False)
class Study:
    """All of it."""

    registration: dict[str, Any]
    chapters: tuple[Chapter, ...]
    claims: tuple[Told, ...]
    origin: dict[str, Any]
    aside: dict[str, int]

    @property
    def settings(self) -> list[Setting]:
        """All settings, chapter after chapter."""
        return [setting for chapter in self.chapters for setting in chapter.settings]

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
        """The settings that pictures show first: those a task names, else the first of it (of a lone task, three)."""
        count = 3 if len(self.chapters) == 1 else 1
        of_each = [chapter.reached for chapter in self.chapters]
        return [s for reached in of_each for s in [s for s in reached if s.main] or reached[:count]]

    @property
    def waiting(self) -> list[Setting]:
        """Settings that nobody has reached, though somebody will."""
        return [setting for setting in self.settings if not setting.reached and not setting.barred]

    @property
    def barred(self) -> list[Setting]:
        """Settings whose bar the baseline missed."""
        return [setting for setting in self.settings if setting.barred]

    def running_in(self, settings: Iterable[Setting]) -> list[str]:
        """Codes of the designs that run in any of these settings, in registered order, floors last."""
        known = {name for setting in settings for name in setting.arms}
        return floors_last([name for name in self.designs if name in known])

    @property
    def matched(self) -> bool:
        """Whether some budget is made equal in any setting."""
        return any(chapter.budgets for chapter in self.chapters)

    def words(self, design: str) -> Words:
        """Say a design."""
        return spelled(self.registration.get("words", {}).get(design), design)

    def comparisons(self) -> list[tuple[Setting, Comparison]]:
        """Every registered comparison."""
        return [(setting, each) for setting in self.settings for each in setting.comparisons]


def floors_last(names: Iterable[str]) -> list[str]:
    """Order designs as people look for them: floor and placebo behind the others.

    >>> floors_last(["QKV", "uniform", "QQV"])
    ['QKV', 'QQV', 'uniform']
    """
    return sorted(names, key=lambda name: name in FLOORS)


def spelled(said: dict[str, str] | None, code: str) -> Words:
    """Return registered words; what has none keeps its code."""
    return Words(said["zh"], said["en"]) if said else Words(code, code)


def anchored(*parts: str) -> str:
    """Make one id of several names; different names make different ids.

    >>> anchored("library", "synonym/fixed")
    'library.synonym_2f_fixed'
    """
    return ".".join(_PLAIN.sub(lambda found: f"_{ord(found[0]):x}_", part) for part in parts)
