"""What to run next: the groups of cells that the open questions of a study need, most urgent first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from qkvlab.evidence import seeds_needed
from qkvlab.study.cells import Cell
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.registration import FLOOR, rule


@dataclass(frozen=True)
class Group:
    """Cells that are trained as one program: same task, setting and design."""

    cells: tuple[Cell, ...]

    @property
    def key(self) -> Key:
        """(task, setting)."""
        return self.cells[0].task, self.cells[0].setting

    @property
    def design(self) -> str:
        """The design of every cell."""
        return self.cells[0].design


def due(findings: Findings, running: Collection[Cell], size: Callable[[str], int]) -> Iterator[Group]:
    """Yield what may run now, in order of urgency: settings as registered; in each, tuning, then judging.

    A setting is judged once all its designs are tuned. Decided comparisons ask for nothing; the baseline and the
    floor run as far as somebody needs them.

    Args:
        findings: what is known.
        running: cells already under way.
        size: how many models of a task are trained together at most.
    """
    for key in findings.settings:
        tuning = findings.tuning(key)
        wanted = tuning.missing if tuning.missing else _judging(findings, key, size(key[0]))
        fresh = [cell for cell in wanted if cell not in running]
        for name in dict.fromkeys(cell.design for cell in fresh):
            yield from _groups([cell for cell in fresh if cell.design == name], size(key[0]))


def open_cells(findings: Findings) -> int:
    """Estimate how many cells are still to run until everything is decided or the seeds are spent."""
    total = 0
    seeds = len(findings.registration["seeds"]["judge"])
    for key in findings.settings:
        tuning = findings.tuning(key)
        total += len(tuning.missing)
        law = rule(findings.registration, findings.settings[key])
        _, equal = seeds_needed(law.alpha, law.delta, law.clip, law.bets)
        goal = {name: 0 for name in findings.designs(key)}
        for name in findings.compared(key):
            verdict = findings.verdict(key, name)
            if not verdict.decided:
                more = min(seeds, max(equal, verdict.n + 8))
                for arm in (name, findings.registration["baseline"], FLOOR):
                    goal[arm] = max(goal[arm], more)
        total += sum(max(0, n - len(findings.judged(key, name))) for name, n in goal.items())
    return total


def _judging(findings: Findings, key: Key, size: int) -> list[Cell]:
    seeds = findings.registration["seeds"]["judge"]
    baseline = findings.registration["baseline"]
    law = rule(findings.registration, findings.settings[key])
    first, _ = seeds_needed(law.alpha, law.delta, law.clip, law.bets)
    have = {name: len(findings.outcomes(key, name)) for name in findings.designs(key)}
    goal = dict.fromkeys(have, 0)
    for name in findings.compared(key):
        verdict = findings.verdict(key, name)
        if verdict.decided:
            continue
        arms = (FLOOR, baseline) if verdict.reason == "waiting for the floor" else (name, baseline)
        # one look further for the arm that is behind; nothing can be said before `first`
        step = max(min(have[arm] for arm in arms) + min(size, 8), first)
        for arm in arms:
            goal[arm] = max(goal[arm], min(step, len(seeds)))
    order = [baseline, *(name for name in have if name != baseline)]
    cells = []
    for name in order:
        rate, done = findings.tuning(key).chosen[name], findings.judged(key, name)
        cells += [Cell(*key, name, "judge", seed, rate) for seed in seeds[: goal[name]] if seed not in done]
    return cells


def _groups(cells: Sequence[Cell], size: int) -> Iterator[Group]:
    # equal parts: 13 cells at size 12 are better trained as 7 and 6
    parts = -(-len(cells) // size)
    for i in range(parts):
        yield Group(tuple(cells[i * len(cells) // parts : (i + 1) * len(cells) // parts]))
