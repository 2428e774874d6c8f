"""What to run next: the groups of cells that the open questions of a study need, most urgent first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from qkvlab.evidence import seeds_needed
from qkvlab.study.cells import Cell
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.price import arms_of, seeds_left
from qkvlab.study.registration import FLOOR, rule

Arm = tuple[Key, str]
"""(task and setting, design)"""
LOOK, PART = 8, 4
"""Seeds by which an arm grows at most before its comparisons are looked at again: so many, or that part of a group
where more of them are trained as fast."""
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
            many, tuning = size(key[0]), findings.tuning(key)
            if tuning.missing:
                yield from _fresh(tuning.missing, begun, many, whole=tuning.contested)
            else:
                yield from _fresh(_until(findings, key, _judging(findings, key, many)), begun, many)
        goals = _checking(findings, LOOK) if keys else {}
        for key in keys:
            yield from _fresh(_until(findings, key, goals), begun, size(key[0]))


def open_cells(findings: Findings) -> dict[Arm, int]:
    """Estimate how many cells of each arm are still to run until everything is decided or the seeds are spent."""
    left: dict[Arm, int] = {}
    for key in findings.settings:
        left |= findings.once(_open, key)
    for arm, goal in _checking(findings, len(findings.registration["seeds"]["judge"])).items():
        left[arm] = max(left[arm], goal - len(findings.judged(*arm)))
    return left


def _open(findings: Findings, key: Key) -> dict[Arm, int]:
    """Estimate the open cells of a setting, but for those that only checks ask for."""
    seeds, baseline = len(findings.registration["seeds"]["judge"]), findings.registration["baseline"]
    _, equal = findings.once(_needed, key)
    goal = dict.fromkeys(findings.designs(key), 0)
    for name in findings.once(_undecided, key):
        verdict = findings.verdict(key, name)
        goal[name] = more = max(equal, verdict.n + LOOK)
        if verdict.reason == "waiting for the floor":
            _, behind = findings.once(_behind, key, name)
            more = max(more, behind + (seeds_left(findings, key, name) or seeds))
        goal[baseline] = goal[FLOOR] = max(goal[baseline], more)
    tuning = Counter(cell.design for cell in findings.tuning(key).missing)
    return {
        (key, name): tuning[name] + max(0, min(n, seeds) - len(findings.judged(key, name))) for name, n in goal.items()
    }


def _needed(findings: Findings, key: Key) -> tuple[int, int]:
    law = rule(findings.registration, findings.settings[key])
    return seeds_needed(law.alpha, law.delta, law.clip, law.bets)


def _undecided(findings: Findings, key: Key) -> list[str]:
    return [name for name in findings.compared(key) if not findings.verdict(key, name).decided]


def _behind(findings: Findings, key: Key, name: str) -> tuple[tuple[str, str], int]:
    """Return the arms that an open comparison waits for, and the seeds of the one that has fewer."""
    arms = arms_of(findings, name, findings.verdict(key, name))
    return arms, min(len(findings.outcomes(key, arm)) for arm in arms)


def _judging(findings: Findings, key: Key, size: int) -> dict[Arm, int]:
    """Return how many seeds of each arm the open comparisons of a tuned setting ask for next."""
    seeds, look = len(findings.registration["seeds"]["judge"]), max(min(size, LOOK), size // PART)
    first, _ = findings.once(_needed, key)
    goals: dict[Arm, int] = {}
    for name in findings.once(_undecided, key):
        arms, behind = findings.once(_behind, key, name)
        # a look further for the arm that is behind; nothing can be said before `first`
        step = max(behind + look, first)
        if behind >= first and (seeds_left(findings, key, name) or 0) >= AHEAD * look:
            step = behind + AHEAD * look
        for arm in arms:
            goals[key, arm] = max(goals.get((key, arm), 0), min(step, seeds))
    return goals


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


def _until(findings: Findings, key: Key, goals: Mapping[Arm, int]) -> Iterator[Cell]:
    """Yield the judging cells of a setting that are missing until each design has its number of seeds."""
    seeds, baseline = findings.registration["seeds"]["judge"], findings.registration["baseline"]
    for name in [baseline, *(name for name in findings.designs(key) if name != baseline)]:
        if (key, name) in goals:
            done, have = findings.judged(key, name), len(findings.outcomes(key, name))
            missing = (seed for seed in seeds[have : goals[key, name]] if seed not in done)
            rate = findings.tuning(key).chosen[name]
            yield from (Cell(*key, name, "judge", seed, rate) for seed in missing)


def _fresh(wanted: Iterable[Cell], begun: set[Cell], size: int, *, whole: bool = False) -> Iterator[Group]:
    """Group the cells that nobody has asked for yet, design after design: no cell is asked for twice.

    Cells are looked at as far as groups are taken, since a study may have thousands of them and few workers.

    Args:
        wanted: cells, those of a design one after the other.
        begun: those that were asked for; grows.
        size: how many models are trained together at most.
        whole: whether all cells of a design are one group.
    """
    for _, of_one in groupby(wanted, key=lambda cell: cell.design):
        cells = tuple(cell for cell in of_one if cell not in begun)
        begun.update(cells)
        if whole and cells:
            yield Group(cells, min(size, len(cells)))
        else:
            yield from _groups(cells, size)


def _groups(cells: Sequence[Cell], size: int) -> Iterator[Group]:
    # equal parts: 13 cells at size 12 are better trained as 7 and 6
    parts = -(-len(cells) // size)
    for i in range(parts):
        part = tuple(cells[i * len(cells) // parts : (i + 1) * len(cells) // parts])
        yield Group(part, len(part))
