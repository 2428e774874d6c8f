"""The registered rule, the divergence rate and the price told beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qkvlab.errors import BadInput
from qkvlab.evidence import DEFAULT_BETS, Rate, Rule, intervals, rate, seeds_needed


def test_defaults_follow_delta() -> None:
    rule = Rule(delta=0.05, alpha=0.01)
    assert (rule.clip, rule.gate, rule.min_seeds, rule.max_diverged) == (0.2, 0.1, 8, 0.1)
    assert rule.bets == DEFAULT_BETS
    assert Rule(delta=0.05, alpha=0.01) == rule
    assert hash(rule) == hash(Rule(delta=0.05, alpha=0.01))


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": 0.0},
        {"delta": -0.05},
        {"delta": math.nan},
        {"delta": math.inf},
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"alpha": math.nan},
        {"clip": 0.0},
        {"clip": math.nan},
        {"clip": 0.05},
        {"clip": 0.1},
        {"gate": -0.1},
        {"gate": math.nan},
        {"gate": 0.2},
        {"min_seeds": 0},
        {"min_seeds": 8.5},
        {"max_diverged": math.nan},
        {"max_diverged": 1.0},
        {"max_diverged": -0.1},
        {"bets": ()},
        {"bets": (0.5, 1.0)},
        {"bets": (0.5, 0.0)},
        {"weights": (1.0,)},
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_in_one_line(wrong: dict) -> None:
    with pytest.raises(BadInput) as caught:
        Rule(**{"delta": 0.05, "alpha": 0.05, **wrong})
    assert next(iter(wrong)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, (8, 18)), (0.05 / 30, (13, 32))])
def test_price_equals_the_check_values(alpha: float, needed: tuple[int, int]) -> None:
    assert seeds_needed(alpha, 0.05) == needed
    assert seeds_needed(alpha, 3.0) == needed


@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.001])
@pytest.mark.parametrize("clip", [0.25, 0.3, 1.0])
@pytest.mark.parametrize("bets", [DEFAULT_BETS, (0.25, 0.5, 0.75)])
def test_price_is_the_first_look_of_the_clearest_data(alpha: float, clip: float, bets: tuple[float, ...]) -> None:
    difference, equivalence = seeds_needed(alpha, 0.1, clip, bets)
    largest = intervals(np.full(difference, clip), clip, alpha, bets)
    assert largest.low[-1] > 0
    assert (largest.low[:-1] <= 0).all()
    zeros = intervals(np.zeros(equivalence), clip, alpha, bets)
    assert zeros.high[-1] < 0.1
    assert (zeros.high[:-1] >= 0.1).all()


def test_price_refuses_what_the_rule_refuses() -> None:
    with pytest.raises(BadInput, match="alpha"):
        seeds_needed(0, 0.05)


def test_rate_of_no_runs_says_nothing() -> None:
    assert rate([], 0.05) == Rate(count=0, total=0, low=0.0, high=1.0)


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_rate_contains_what_was_seen_and_mirrors(count: int) -> None:
    events = [i < count for i in range(40)]
    np.random.default_rng(count).shuffle(events)
    found, other = rate(events, 0.05), rate([not e for e in events], 0.05)
    assert (found.count, found.total) == (count, 40)
    assert 0 <= found.low <= count / 40 <= found.high <= 1
    assert found.high - found.low < 0.6
    assert (found.low, found.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-12)


def test_rate_covers_the_truth_over_repeated_looks() -> None:
    rng, wrong, studies = np.random.default_rng(5), 0, 300
    for _ in range(studies):
        found = rate(list(rng.random(50) < 0.08), 0.2)  # nested intervals: the last look misses if any look did
        wrong += not found.low <= 0.08 <= found.high
    assert wrong <= studies * 0.2 + 4 * math.sqrt(studies * 0.2 * 0.8)
