"""Habits that look harmless and are not: each is wrong far more often than it claims, ours beside it is not.

They prove that the simulations can tell a valid method from an invalid one.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from qkvlab.evidence import Outcome, Rule, decide, leading, prefix, wealth_down, wealth_up

ALPHA = 0.05
RULE = Rule(delta=0.02, alpha=ALPHA, clip=1.0)  # so narrow that nothing here is ever within delta


def arm(values: np.ndarray) -> list[Outcome]:
    return [Outcome(float(v)) for v in values]


def differs(design: list[Outcome], baseline: list[Outcome]) -> bool:
    return decide(design, baseline, None, RULE).verdict.startswith(("better", "worse"))


def allowed(studies: int) -> float:
    return ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / studies)


def t_quantile(df: np.ndarray) -> np.ndarray:
    """Two-sided 5 % point of Student's t by its expansion in 1/df (Fisher); within 0.002 from df = 7 on."""
    z = NormalDist().inv_cdf(1 - ALPHA / 2)
    terms = [
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    ]
    return sum(term / df**power for power, term in enumerate(terms))


def test_a_t_test_at_every_look() -> None:
    assert abs(t_quantile(np.array([7.0]))[0] - 2.3646) < 0.002
    studies, seeds = 1000, 150
    d = np.random.default_rng(1).normal(0, 0.3, (studies, seeds)).clip(-1, 1)
    n = np.arange(1, seeds + 1)
    mean = np.cumsum(d, axis=1) / n
    spread = np.sqrt((np.cumsum(d**2, axis=1) / n - mean**2) * n / np.maximum(n - 1, 1))
    looks = slice(7, None)
    t = np.abs(mean * np.sqrt(n))[:, looks] / spread[:, looks]
    peeking = (t > t_quantile(n[looks] - 1.0)).any(axis=1).mean()
    ours = (np.maximum(wealth_up(d, 0, 1), wealth_down(d, 0, 1)) > 2 / ALPHA).any(axis=1).mean()
    once = (t[:, -1] > t_quantile(np.array([seeds - 1.0]))).mean()
    assert peeking > 0.22
    assert once <= allowed(studies)  # the test itself is fine at one look
    assert ours <= allowed(studies)


def test_pairing_by_completion_order() -> None:
    # The baseline is finished; the design's runs go in parallel, and a run that does badly stops sooner.
    rng, studies, seeds = np.random.default_rng(2), 200, list(range(40))
    hasty = honest = 0
    for _ in range(studies):
        loss = np.where(rng.random((2, len(seeds))) < 0.5, 0.1, 0.9)
        finish = rng.normal(0, 0.4, len(seeds)) - loss[0]
        order = np.argsort(finish)
        design = dict(zip(seeds, arm(loss[0]), strict=True))
        baseline = dict(zip(seeds, arm(loss[1]), strict=True))
        hasty += differs([design[seeds[i]] for i in order], [baseline[seeds[i]] for i in order])
        said = set()
        for done in range(8, len(seeds) + 1, 4):
            finished = {seeds[i]: design[seeds[i]] for i in order[:done]}
            said.add(differs(*prefix(seeds, finished, baseline)))
        honest += True in said
    assert hasty / studies > 0.2
    assert honest / studies <= allowed(studies)


def test_tuning_seeds_reused_for_judging() -> None:
    # Three hundred settings, all exactly as good as the baseline; the best of them is chosen, then judged.
    rng, studies, settings, seeds = np.random.default_rng(3), 250, 300, 32
    reused = fresh = 0
    for _ in range(studies):
        tried = np.where(rng.random((settings, 2 * seeds)) < 0.5, 0.0, 1.0)
        baseline = arm(rng.normal(0.5, 0.05, 2 * seeds))
        best = tried[np.argmin(tried[:, :seeds].mean(axis=1))]
        reused += differs(arm(best[:seeds]), baseline[:seeds])
        registered = list(range(seeds, 2 * seeds))
        judged = leading(registered, dict(enumerate(arm(best))))
        fresh += differs(judged, baseline[seeds:])
    assert reused / studies > 0.25
    assert fresh / studies <= allowed(studies)


def test_diverged_runs_dropped() -> None:
    # It gains a little and dies on every tenth seed: the mean of the clipped D, deaths included, is 0.
    rng, studies, seeds, died = np.random.default_rng(4), 200, 60, 0.1
    gain = died * RULE.clip / (1 - died)
    dropped = counted = 0
    for _ in range(studies):
        lost = rng.random(seeds) < died
        noise = rng.choice([-0.05, 0.05], seeds)
        design = [Outcome(float(0.5 - gain + e), bool(x)) for e, x in zip(noise, lost, strict=True)]
        baseline = arm(np.full(seeds, 0.5))
        kept = [i for i in range(seeds) if not design[i].lost]
        dropped += differs([design[i] for i in kept], [baseline[i] for i in kept])
        counted += differs(design, baseline)
    assert dropped / studies > 0.5
    assert counted / studies <= allowed(studies)
