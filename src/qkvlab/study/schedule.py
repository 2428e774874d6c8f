"""What to run next: the groups of cells that the open questions of a study need, most urgent first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qkvlab.evidence import seeds_needed
from qkvlab.study.cells import Cell
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.price import arms_of, seeds_left
from qkvlab.study.registration import FLOOR, rule

Arm = tuple[Key, str]
"""(task and setting, design)"""
LOOK = 8
"""Seeds by which an arm grows at most before its comparisons are looked at again."""
AHEAD = 2
"""Looks that are asked for at once where so many are likely to be needed: while one is trained the next waits."""


@dataclass(frozen=True)
class Group:
    """Cells that are trained in one order: same task, setting and design.

    Attributes:
        cells: what is trained.
        at_once: how many of them make a program. Rates that are held against each other are one group, however many.
    """

    cells: tuple[Cell, ...]
    at_once: int

    @property
    def key(self) -> Key:
        """(task, setting)."""
        return self.cells[0].task, self.cells[0].setting

    @property
    def design(self) -> str:
        """The design of every cell."""
        return self.cells[0].design


def due(
    findings: Findings, running: Collection[Cell], size: Callable[[str], int], first: Sequence[Key] = ()
) -> Iterator[Group]:
    """Yield what may run now, in order of urgency: settings as registered; in each, tuning, then judging.

    A setting is judged once all its designs are tuned. Decided comparisons ask for nothing; the baseline and the
    floor run as far as somebody needs them. When no comparison of any setting asks, the open checks of claims do.

    Args:
        findings: what is known.
        running: cells already under way.
        size: how many models of a task are trained together at most.
        first: settings that go before the others, with their checks; the order changes nothing of what is said.
    """
    begun = set(running)
    for keys in (first, [key for key in findings.settings if key not in first]):
        for key in keys:
            tuning = findings.tuning(key)
            wanted = tuning.missing if tuning.missing else _judging(findings, key, size(key[0]))
            yield from _fresh(wanted, begun, size(key[0]), whole=bool(tuning.missing) and tuning.contested)
        goals = _checking(findings, LOOK) if keys else {}
        for key in keys:
            yield from _fresh(_until(findings, key, goals), begun, size(key[0]))


def open_cells(findings: Findings) -> dict[Arm, int]:
    """Estimate how many cells of each arm are still to run until everything is decided or the seeds are spent."""
    left: dict[Arm, int] = {}
    seeds = len(findings.registration["seeds"]["judge"])
    asked = _checking(findings, seeds)
    for key in findings.settings:
        tuning = findings.tuning(key)
        for cell in tuning.missing:
            left[key, cell.design] = left.get((key, cell.design), 0) + 1
        law = rule(findings.registration, findings.settings[key])
        _, equal = seeds_needed(law.alpha, law.delta, law.clip, law.bets)
        goal = {name: 0 for name in findings.designs(key)}
        for name in findings.compared(key):
            verdict = findings.verdict(key, name)
            if not verdict.decided:
                more = min(seeds, max(equal, verdict.n + LOOK))
                for arm in (name, findings.registration["baseline"], FLOOR):
                    goal[arm] = max(goal[arm], more)
                if verdict.reason == "waiting for the floor":
                    arms = arms_of(findings, name, verdict)
                    behind = min(len(findings.outcomes(key, arm)) for arm in arms)
                    more = min(seeds, behind + (seeds_left(findings, key, name, verdict) or seeds))
                    for arm in arms:
                        goal[arm] = max(goal[arm], more)
        for name, n in goal.items():
            more = max(n, asked.get((key, name), 0)) - len(findings.judged(key, name))
            left[key, name] = left.get((key, name), 0) + max(0, more)
    return left


def _judging(findings: Findings, key: Key, size: int) -> list[Cell]:
    seeds = findings.registration["seeds"]["judge"]
    law = rule(findings.registration, findings.settings[key])
    first, _ = seeds_needed(law.alpha, law.delta, law.clip, law.bets)
    have = {name: len(findings.outcomes(key, name)) for name in findings.designs(key)}
    goal = dict.fromkeys(have, 0)
    for name in findings.compared(key):
        verdict = findings.verdict(key, name)
        if verdict.decided:
            continue
        arms, look = arms_of(findings, name, verdict), min(size, LOOK)
        behind = min(have[arm] for arm in arms)
        # a look further for the arm that is behind; nothing can be said before `first`
        step = max(behind + look, first)
        if behind >= first and (seeds_left(findings, key, name, verdict) or 0) >= AHEAD * look:
            step = behind + AHEAD * look
        for arm in arms:
            goal[arm] = max(goal[arm], min(step, len(seeds)))
    return _until(findings, key, {(key, name): n for name, n in goal.items()})


def _checking(findings: Findings, most: int) -> dict[Arm, int]:
    """Return how many seeds of each arm the open checks ask for next: at most ``most`` more than there are."""
    seeds = len(findings.registration["seeds"]["judge"])
    goals: dict[Arm, int] = {}
    for asked, said in findings.answers():
        arms = [arm for arm in asked.check.arms() if arm[0] in findings.settings]
        if not said.waits or any(findings.tuning(key).missing for key, _ in arms):
            continue
        more = LOOK if said.more is None else max(LOOK, said.more)
        goal = min(seeds, min(len(findings.outcomes(*arm)) for arm in arms) + min(most, more))
        for arm in arms:
            goals[arm] = max(goals.get(arm, 0), goal)
    return goals


def _until(findings: Findings, key: Key, goals: Mapping[Arm, int]) -> list[Cell]:
    """Return the judging cells of a setting that are missing until each design has its number of seeds."""
    seeds, baseline = findings.registration["seeds"]["judge"], findings.registration["baseline"]
    cells = []
    for name in [baseline, *(name for name in findings.designs(key) if name != baseline)]:
        goal = goals.get((key, name), 0)
        if goal:
            rate, done = findings.tuning(key).chosen[name], findings.judged(key, name)
            cells += [Cell(*key, name, "judge", seed, rate) for seed in seeds[:goal] if seed not in done]
    return cells


def _fresh(wanted: Sequence[Cell], begun: set[Cell], size: int, *, whole: bool = False) -> Iterator[Group]:
    """Group the cells that nobody has asked for yet, and take note of them: no cell is asked for twice.

    Args:
        wanted: cells in order.
        begun: those that were asked for.
        size: how many models are trained together at most.
        whole: whether all cells of a design are one group.
    """
    cells = [cell for cell in wanted if cell not in begun]
    begun.update(cells)
    for name in dict.fromkeys(cell.design for cell in cells):
        own = tuple(cell for cell in cells if cell.design == name)
        yield from [Group(own, min(size, len(own)))] if whole else _groups(own, size)


def _groups(cells: Sequence[Cell], size: int) -> Iterator[Group]:
    # equal parts: 13 cells at size 12 are better trained as 7 and 6
    parts = -(-len(cells) // size)
    for i in range(parts):
        part = tuple(cells[i * len(cells) // parts : (i + 1) * len(cells) // parts])
        yield Group(part, len(part))
