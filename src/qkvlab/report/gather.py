"""From findings to the study as its report sees it.

Everything is computed from the registration and the accepted results; averages are taken over the unbroken
prefix of the seed list, like the verdicts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from qkvlab import tasks
from qkvlab.claims import told
from qkvlab.contracts import Words
from qkvlab.errors import BadInput
from qkvlab.evidence import intervals, paired
from qkvlab.report.obstacles import obstacle
from qkvlab.report.titles import Title, task_words, title
from qkvlab.report.view import Arm, Chapter, Comparison, Floats, Setting, Study, anchored, floors_last, spelled
from qkvlab.study.cells import Result
from qkvlab.study.decisions import Findings, Key
from qkvlab.study.registration import rule
from qkvlab.study.sessions import Session
from qkvlab.study.verdicts import origin


def look(findings: Findings, aside: Iterable[tuple[Result, str]] = (), sessions: Sequence[Session] = ()) -> Study:
    """Take a study in.

    Args:
        findings: what it knows.
        aside: what its store kept aside, with the reasons.
        sessions: the calls that trained it.
    """
    several = len({task for task, _ in findings.settings}) > 1
    settings = [_setting(findings, key, several) for key in findings.settings]
    chapters = [
        Chapter(name, task_words(name), tuple(s for s in settings if s.key[0] == name))
        for name in dict.fromkeys(s.key[0] for s in settings)
    ]
    reasons = Counter(reason for _, reason in aside)
    return Study(
        registration=findings.registration,
        chapters=tuple(chapters),
        claims=tuple(told(findings)),
        origin=origin(findings, sessions),
        aside=dict(sorted(reasons.items())),
    )


def _setting(findings: Findings, key: Key, several: bool) -> Setting:
    facts = findings.settings[key]
    arms = {name: _arm(findings, key, name) for name in floors_last(findings.designs(key))}
    baseline = arms[findings.registration["baseline"]]
    own = title(*key)
    # where tasks are mixed, a setting is known by both names
    task = task_words(key[0]).name
    full = Title(Words(f"{task.zh}：{own.head.zh}", f"{task.en}: {own.head.en}"), own.variant, own.vectors)
    return Setting(
        key=key,
        title=own,
        full=full if several else own,
        words=spelled(facts.get("words"), key[1]),
        metric=facts["metric"],
        delta=facts["delta"],
        clip=facts["clip"],
        chance=facts["chance"],
        bar=facts.get("bar"),
        tuned=findings.tuned(key, baseline.design),
        barred=findings.barred(key),
        facts=facts["facts"],
        arms=arms,
        comparisons=tuple(_compared(findings, key, arms[n], baseline) for n in floors_last(findings.compared(key))),
        main=key[1] in _shown(key[0]),
    )


def _arm(findings: Findings, key: Key, name: str) -> Arm:
    facts = findings.settings[key]
    runs = _prefix(findings, key, name)
    cost = facts["arms"][name]
    return Arm(
        design=name,
        words=spelled(findings.registration.get("words", {}).get(name), name),
        place=findings.registration["designs"].index(name),
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
    waits = None if verdict.decided else obstacle(findings, key, arm.design, verdict).words
    anchor = anchored("r", *key, arm.design)
    return Comparison(arm, baseline, verdict, bounds.low, bounds.high, running, anchor, waits)


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


def _shown(task: str) -> tuple[str, ...]:
    try:
        return tasks.find(task).shown
    except BadInput:  # a task of another version; its numbers can be told all the same
        return ()
