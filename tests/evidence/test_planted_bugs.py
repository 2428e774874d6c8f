"""Bugs planted on purpose: the short contract below holds for the package and for none of the mutants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from qkvlab.errors import BadInput
from qkvlab.evidence import Outcome, Rule, betting, budget, differences, floor, proportion, roots, verdict

D = (0.30, 0.10, 0.40, -0.20, 0.50, 0.25, 0.35, 0.15)
RULE = Rule(delta=0.05, alpha=0.05)
MODULES = (betting, budget, differences, floor, proportion, roots, verdict)


def flat(value: float, n: int = 40) -> list[Outcome]:
    return [Outcome(value)] * n


def contract() -> None:
    """What any implementation must satisfy; every line looks the functions up where the package does."""
    bounds = betting.intervals(D, 1, 0.05)
    assert bounds.low[-1] == pytest.approx(-0.355502, abs=5e-7)
    assert bounds.high[-1] == pytest.approx(0.603931, abs=5e-7)
    assert betting.wealth_up(D, -0.25, 1)[-1] == pytest.approx(13.901600, abs=5e-7)
    assert betting.wealth_down(D, 0.25, 1)[-1] == pytest.approx(1.004520, abs=5e-7)
    bounds = betting.intervals([1.0] * 20 + [-1.0] * 20, 1, 0.05)
    assert bounds.low[-1] == bounds.low.max()
    assert bounds.high[-1] == bounds.high.min()

    lost = Outcome(math.nan, diverged=True)
    values = differences.paired([Outcome(3.0), Outcome(0.5), lost, lost], [*flat(0.0, 3), lost], 1.0).values
    assert values.tolist() == [1.0, 0.5, 1.0, 0.0]
    one, other = differences.prefix([1, 2, 3], {1: Outcome(1.0), 3: Outcome(3.0)}, dict.fromkeys((3, 2, 1), lost))
    assert (one, other) == ([Outcome(1.0)], [lost])

    decide = verdict.decide
    assert decide(flat(0.1), flat(0.5), flat(0.9), RULE).verdict == "better"
    assert decide(flat(0.5), flat(0.1), flat(0.9), RULE).verdict == "worse"
    assert decide(flat(0.1, 60), flat(0.5, 60), flat(0.9), RULE).n == 8
    assert decide(flat(0.3), flat(0.3), flat(0.9), RULE).n == 18
    assert decide(flat(0.3), flat(0.3), flat(0.9), RULE).verdict == "equivalent"
    assert decide(flat(0.3), flat(0.3), flat(0.3), RULE).verdict == "nothing to compare"
    assert decide([lost] * 40, [lost] * 40, flat(0.9), RULE).reason == "too many diverged"
    assert decide(flat(0.3), flat(0.3), flat(0.9, 9), RULE).verdict == "undecided"
    assert not decide(flat(0.1, 7), flat(0.5, 7), None, replace(RULE, alpha=0.9)).decided
    early_and_late = decide([*flat(0.1, 10), *flat(0.9, 30)], flat(0.5), None, RULE)
    assert (early_and_late.verdict, early_and_late.n) == ("better", 8)


def swap(monkeypatch: pytest.MonkeyPatch, name: str, mutant: Callable | object) -> None:
    """Put the mutant wherever the package has imported the original."""
    places: list[ModuleType] = [module for module in MODULES if hasattr(module, name)]
    assert places, name
    for module in places:
        monkeypatch.setattr(module, name, mutant)


paired, prefix, intervals, lower_ends = (
    differences.paired,
    differences.prefix,
    betting.intervals,
    roots.lower_ends,
)
wealth_up, wealth_down, beats_floor, first_word = (
    betting.wealth_up,
    betting.wealth_down,
    floor.beats_floor,
    verdict._first_word,
)


def by_completion(seeds, design, baseline):
    both = [seed for seed in design if seed in baseline]
    return [design[s] for s in both], [baseline[s] for s in both]


def without_diverged(design, baseline, clip):
    kept = [(a, b) for a, b in zip(design, baseline, strict=True) if not (a.lost or b.lost)]
    return paired([a for a, _ in kept], [b for _, b in kept], clip)


def diverged_is_zero(design, baseline, clip):
    found = paired(design, baseline, clip)
    lost = np.array([a.lost or b.lost for a, b in zip(design, baseline, strict=True)])
    return replace(found, values=np.where(lost, 0.0, found.values))


def not_intersected(differences, clip, alpha, bets=betting.DEFAULT_BETS, weights=None):
    log_weights = np.full(len(bets), -math.log(len(bets)))
    shares = (np.asarray(differences, dtype=float) + clip) / (2 * clip)
    low = clip * (2 * lower_ends(shares, math.log(2 / alpha), np.asarray(bets), log_weights) - 1)
    return betting.Intervals(low, intervals(differences, clip, alpha, bets, weights).high)


def last_look(bounds, rule):
    """The verdict of the last look instead of the first that says anything."""
    late = replace(rule, min_seeds=max(rule.min_seeds, len(bounds)))
    return first_word(bounds, late)


def wrong_denominator(differences, m, clip, bets=betting.DEFAULT_BETS, weights=None):
    edge = (np.asarray(differences, dtype=float) - m) / (clip - m)
    factors = 1 + np.asarray(bets)[:, None] * edge
    return np.cumprod(np.maximum(factors, 0), axis=1).mean(axis=0)


MUTANTS: dict[str, tuple[str, object]] = {
    "sign flipped": ("paired", lambda a, b, clip: paired(b, a, clip)),
    "clip missing": ("paired", lambda a, b, clip: paired(a, b, 1e6)),
    "diverged dropped": ("paired", without_diverged),
    "diverged counts as a tie": ("paired", diverged_is_zero),
    "order of completion": ("prefix", by_completion),
    "alpha not halved": ("intervals", lambda d, clip, alpha, *rest: intervals(d, clip, 2 * alpha, *rest)),
    "alpha halved twice": ("intervals", lambda d, clip, alpha, *rest: intervals(d, clip, alpha / 2, *rest)),
    "no running intersection": ("intervals", not_intersected),
    "wrong denominator": ("wealth_up", wrong_denominator),
    "bets of the other side": ("wealth_down", wealth_up),
    "weights sum to the number of bets": ("lower_ends", lambda s, t, b, w: lower_ends(s, t, b, 0 * w)),
    "one bet instead of the grid": ("lower_ends", lambda s, t, b, w: lower_ends(s, t, b[:1], 0 * w[:1])),
    "floor never asked": ("beats_floor", lambda *_: "beaten"),
    "floor asked the wrong way round": ("beats_floor", lambda b, u, rule: beats_floor(u, b, rule)),
    "last look instead of the first": ("_first_word", last_look),
    "minimum of seeds ignored": ("_first_word", lambda b, rule: first_word(b, replace(rule, min_seeds=1))),
    "delta half as wide again": (
        "_first_word",
        lambda b, rule: first_word(b, replace(rule, delta=1.5 * rule.delta)),
    ),
    "divergence never asked": ("_worth_saying", lambda design, b, u, rule: ("equivalent", "")),
}


@pytest.fixture(autouse=True)
def _no_memory():
    """What a mutant made the divergence rate remember must not reach another test."""
    yield
    proportion._bounds.cache_clear()


def test_the_contract_holds_for_the_package() -> None:
    contract()
    assert len(MUTANTS) >= 15


@pytest.mark.parametrize("bug", MUTANTS)
def test_the_contract_catches(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, mutant = MUTANTS[bug]
    swap(monkeypatch, name, mutant)
    with pytest.raises((AssertionError, BadInput)):
        contract()
