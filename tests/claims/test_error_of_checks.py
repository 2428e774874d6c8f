"""Among all checks of a study the chance of any wrong answer is at most alpha, at every look, where it is hardest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qkvlab.claims import numbers
from qkvlab.claims.answer import answer
from qkvlab.claims.asking import loses, part_lost, share
from qkvlab.claims.check import Check
from qkvlab.claims.numbers import gather
from qkvlab.evidence import Outcome, Rule

KEY = ("text", "plain")
STUDIES, SEEDS, CHECKS, ALPHA = 100, 40, 5, 0.2
RULE = Rule(delta=0.05, alpha=ALPHA / CHECKS)
LIMIT = STUDIES * ALPHA + 4 * math.sqrt(STUDIES * ALPHA * (1 - ALPHA))
LAWS = {
    "coin": lambda rng: rng.choice([-0.1, 0.1], SEEDS),
    "skewed": lambda rng: np.where(rng.random(SEEDS) < 0.05, 0.145, -0.145 / 19),
    "narrow": lambda rng: np.clip(rng.normal(0, 0.03, SEEDS), -0.14, 0.14),
}


def answers(check: Check, rng: np.random.Generator, law) -> bool:
    """Whether one check, whose truth stands exactly on the threshold, is ever answered."""
    noise = law(rng)
    base = rng.uniform(0.2, 0.4, SEEDS)
    arms = {"QKV": base, "uniform": base + 1.0, "QQV": base + check.threshold + noise}
    if len(check.terms) == 1:
        arms["QQV"] = check.threshold + noise
    found = gather(check, lambda key, design, metric: [Outcome(float(v)) for v in arms[design]])
    assert found is not None
    return bool(found.sides(RULE)[RULE.min_seeds - 1 :].any())


def wrong_studies(check: Check, law) -> int:
    rng = np.random.default_rng(7)
    return sum(any(answers(check, rng, law) for _ in range(CHECKS)) for _ in range(STUDIES))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", ["difference", "share", "part"])
def test_on_the_threshold_hardly_any_study_answers(law, kind):
    check = {
        "difference": loses("c", KEY, "QQV").at(0.05),
        "share": share("c", KEY, "QQV", "own_1"),
        "part": part_lost("c", KEY, "QQV", "error", 0.05).at(0.05),
    }[kind]
    assert wrong_studies(check, LAWS[law]) <= LIMIT


def test_a_test_at_every_look_would_fail_this(monkeypatch):
    """The same experiment with a t-test at each look is wrong far more often, so the limit can be missed."""

    def t_test(values, m, clip, rule):
        n = np.arange(1, len(values) + 1)
        mean = np.cumsum(values) / n
        spread = np.sqrt(np.maximum(np.cumsum(values**2) / n - mean**2, 1e-12) / n)
        return np.sign(mean - m) * (np.abs(mean - m) > 2 * spread).astype(int)

    monkeypatch.setattr(numbers, "_sides", t_test)
    assert wrong_studies(loses("c", KEY, "QQV").at(0.05), LAWS["narrow"]) > LIMIT


def test_the_interval_of_a_part_covers_it():
    """In at least 1 - alpha of the studies the true part lies inside at the last look."""
    rng = np.random.default_rng(3)
    check = part_lost("c", KEY, "QQV", "nats", 0.5).at(0.05)
    rule = Rule(delta=0.05, alpha=0.2)
    missed = 0
    for _ in range(30):
        base = rng.uniform(1.4, 1.5, 30)
        arms = {"QKV": base, "uniform": base + 0.4, "QQV": base + 0.12 + np.clip(rng.normal(0, 0.02, 30), -0.08, 0.08)}
        said = answer(check, lambda key, design, metric, a=arms: [Outcome(float(v)) for v in a[design]], rule)
        missed += not said.low <= 0.3 <= said.high
        assert said.low < said.high
    assert missed <= 30 * 0.2 + 4 * math.sqrt(30 * 0.2 * 0.8)
