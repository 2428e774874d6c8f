"""What keeps a comparison undecided, and what deciding it would take: so many more seeds, so many more minutes.

An estimate, not a promise: it supposes that the seeds to come are like those that were read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkvlab.contracts import Words
from qkvlab.evidence import Verdict
from qkvlab.report.numbers import whole
from qkvlab.report.titles import title
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.price import arms_of, seeds_left


@dataclass(frozen=True)
class Obstacle:
    """An undecided comparison.

    Attributes:
        key: (task, setting).
        design: its code.
        verdict: how far it has come.
        seeds: how many more it needs; None where nobody can tell.
        minutes: of training for them, summed over models; None where nothing was timed.
    """

    key: Key
    design: str
    verdict: Verdict
    seeds: int | None
    minutes: float | None

    @property
    def words(self) -> Words:
        """What is in the way, with its price."""
        why = {
            "waiting for the floor": Words("在等平均注意力这个对照", "the control of equal attention needs more seeds"),
            "too few seeds": Words("种子太少", "too few seeds"),
        }.get(self.verdict.reason, Words("区间还太宽", "the interval is still wide"))
        if not self.verdict.n:
            why = Words("还没开始", "not started")
        if self.seeds is None:
            return Words(f"{why.zh}，看不出还要多少种子", f"{why.en}; nobody can tell how many more it takes")
        roughly = Words("约", "about") if self.verdict.n else Words("至少", "at least")
        zh, en = f"还要{roughly.zh} {whole(self.seeds)} 个种子", f"{roughly.en} {whole(self.seeds)} more seeds"
        if self.minutes is not None:
            spent = f"{self.minutes:.0f}" if self.minutes >= 9.5 else f"{max(self.minutes, 0.1):.1f}"
            zh, en = f"{zh}、{spent} 分钟训练", f"{en}, {spent} minutes of training"
        return Words(f"{why.zh}，{zh}", f"{why.en}; {en}")

    @property
    def where(self) -> Words:
        """Setting and design."""
        name = title(*self.key).words
        return Words(f"{self.design}（{self.key[0]}，{name.zh}）", f"{self.design} ({self.key[0]}, {name.en})")


def obstacles(findings: Findings) -> list[Obstacle]:
    """Return every undecided comparison with what it would take."""
    return [
        obstacle(findings, key, name, verdict) for key, name, verdict in findings.comparisons() if not verdict.decided
    ]


def obstacle(findings: Findings, key: Key, name: str, verdict: Verdict) -> Obstacle:
    """Say what an undecided comparison waits for."""
    arms, seeds = arms_of(findings, name, verdict), seeds_left(findings, key, name)
    runs = [run for arm in arms for run in findings.judged(key, arm).values()]
    if not runs:  # tuning runs take as long
        runs = [r for c, r in findings.results.items() if (c.task, c.setting) == key and c.design in arms]
    if seeds is None or not runs:
        return Obstacle(key, name, verdict, seeds, None)
    return Obstacle(key, name, verdict, seeds, 2 * seeds * math.fsum(run.seconds for run in runs) / len(runs) / 60)
