"""The whole decision code where a wrong word is easiest: at effects of exactly 0 and exactly delta."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from qkvlab.evidence import Outcome, Rule, decide

DELTA, ALPHA, STUDIES, SEEDS = 0.05, 0.2, 400, 40
RULE = Rule(delta=DELTA, alpha=ALPHA)
LIMIT = STUDIES * ALPHA + 4 * math.sqrt(STUDIES * ALPHA * (1 - ALPHA))


def judged(effect: float, noise: str, seed: int) -> Counter[str]:
    """Words of many studies whose clipped differences have mean ``effect`` exactly."""
    rng = np.random.default_rng(seed)
    words: Counter[str] = Counter()
    for _ in range(STUDIES):
        if noise == "coin":
            spread = rng.choice([-1.0, 1.0], SEEDS) * 2 * DELTA
        elif noise == "rare":
            spread = np.where(rng.random(SEEDS) < 0.05, 1.9, -0.1) * DELTA
        else:
            spread = np.clip(rng.normal(0, 0.4, SEEDS), -2, 2) * DELTA
        base = rng.normal(0.3, 0.1, SEEDS)
        arms = [[Outcome(float(v)) for v in values] for values in (base + effect + spread, base, base + 1)]
        words[decide(*arms, RULE).verdict] += 1
    return words


@pytest.mark.parametrize("noise", ["coin", "rare", "narrow"])
def test_no_effect_is_rarely_called_one(noise: str) -> None:
    words = judged(0.0, noise, 1)
    wrong = sum(words[w] for w in words if w.startswith(("better", "worse")) or w == "inconsistent")
    assert wrong <= LIMIT
    assert words["nothing to compare"] == 0
    if noise == "narrow":
        assert words["equivalent"] > 0.9 * STUDIES  # the right word is found, too


@pytest.mark.parametrize("noise", ["coin", "rare", "narrow"])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_effect_of_delta_is_rarely_called_none(noise: str, sign: int) -> None:
    words = judged(sign * DELTA, noise, 2)
    right, wrong = ("worse", "better") if sign > 0 else ("better", "worse")
    false = words["equivalent"] + words["inconsistent"] + words[wrong]
    false += words[f"{wrong}, by less than delta"] + words[f"{right}, by less than delta"]
    assert false <= LIMIT
    if noise != "coin":
        assert words[right] > 0.5 * STUDIES


def test_an_arm_against_itself_on_other_seeds_with_diverging_runs() -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(STUDIES):
        losses = rng.lognormal(-1.5, 0.8, (2, SEEDS))
        lost = rng.random((2, SEEDS)) < 0.15
        design, baseline = (
            [Outcome(float(v), bool(d)) for v, d in zip(*arm, strict=True)] for arm in zip(losses, lost, strict=True)
        )
        wrong += decide(design, baseline, None, RULE).verdict.startswith(("better", "worse"))
    assert wrong <= LIMIT
