"""Which rates stop at a rung: never the one that is ahead, higher ones late, always one that diverged."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkvlab.study.registration import HALVING
from qkvlab.training.halving import Contest, Halving, Rung

RULE = Halving((Rung(0.2, lower=0.5, higher=1.2), Rung(0.5, lower=0.1, higher=0.8)), window=0.1, enough=0.2)
POINTS = 50
FIRST, SECOND = RULE.at(POINTS)


def curves(ends: dict[float, float], at: int = POINTS, seeds: int = 2) -> dict[tuple[int, float], tuple[float, ...]]:
    """Straight lines from 3 to where each rate ends; one seed a little above, one below."""
    found = {}
    for rate, end in ends.items():
        for seed in range(seeds):
            off = 0.1 * (seed - (seeds - 1) / 2)
            found[seed, rate] = tuple(3 + (end + off - 3) * p / (at - 1) for p in range(at))
    return found


def staying(ends: dict[float, float], place: tuple[int, Rung], rule: Halving = RULE) -> set[float]:
    return rule.staying(curves(ends, place[0]), *place, POINTS)


@pytest.mark.parametrize(
    ("ends", "first", "second"),
    [
        # learned 2: lower rates may be 1.0 behind, then .2; higher ones 2.4, then 1.6
        ({0.001: 2.9, 0.003: 1.0, 0.01: 2.9, 0.03: 9.0}, {0.003, 0.01}, {0.003}),
        ({0.001: 1.5, 0.003: 1.0, 0.01: 1.9, 0.03: 2.5}, {0.001, 0.003, 0.01, 0.03}, {0.003, 0.01, 0.03}),
        ({0.001: 1.15, 0.003: 1.0, 0.01: 3.3, 0.03: 3.5}, {0.001, 0.003, 0.01}, {0.001, 0.003}),
        ({0.001: 2.9, 0.003: 2.8, 0.01: 1.0}, {0.01}, {0.01}),
        # where nothing is learned yet nobody is hopeless, but for what diverged
        ({0.001: 2.9, 0.003: 3.1, 0.01: 3.2, 0.03: 8.0}, {0.001, 0.003, 0.01, 0.03}, {0.001, 0.003, 0.01, 0.03}),
        ({0.001: 2.9, 0.003: math.nan, 0.01: 3.2}, {0.001, 0.01}, {0.001, 0.01}),
        ({0.5: 7.0}, {0.5}, {0.5}),
    ],
)
def test_who_goes_on(ends, first, second):
    flat = {run: (3.0,) + (curve[-1],) * (len(curve) - 1) for run, curve in curves(ends).items()}
    for place, expected in ((FIRST, first), (SECOND, second)):
        assert RULE.staying({run: curve[: place[0]] for run, curve in flat.items()}, *place, POINTS) == expected


ends_of_rates = st.dictionaries(
    st.floats(1e-5, 1.0), st.floats(0.0, 5.0) | st.just(math.nan) | st.just(math.inf), min_size=1, max_size=9
)


@given(ends_of_rates, st.sampled_from([FIRST, SECOND]))
def test_the_best_goes_on_and_what_diverged_does_not(ends, place):
    stays = staying(ends, place)
    sound = {rate: end for rate, end in ends.items() if math.isfinite(end)}
    if not sound:
        assert stays == set(ends), "none is better than another"
        return
    assert any(sound[rate] == min(sound.values()) for rate in stays & set(sound)), "the best stopped"
    assert stays <= set(sound), "one that diverged went on"


@given(ends_of_rates)
def test_a_higher_rate_stops_only_where_it_is_worse_than_it_began(ends):
    """At the first rung; lines that rise end above 3."""
    stays, sound = staying(ends, FIRST), {rate: end for rate, end in ends.items() if math.isfinite(end)}
    best = min(sound.values(), default=0.0)
    for rate in set(sound) - stays:
        assert sound[rate] > 3 or all(rate < other for other, end in sound.items() if end == best)


def test_one_seed_that_diverged_is_enough():
    some = curves({0.003: 2.0, 0.01: 1.0}, FIRST[0])
    some[1, 0.01] = (*some[1, 0.01][:3], math.nan, *some[1, 0.01][4:])  # long before the window
    assert RULE.staying(some, *FIRST, POINTS) == {0.003}


def test_all_rates_count_alike_whatever_came_first():
    some = curves({0.001: 2.5, 0.003: 1.0, 0.01: 2.9}, SECOND[0])
    assert RULE.staying(dict(reversed(some.items())), *SECOND, POINTS) == RULE.staying(some, *SECOND, POINTS)


def test_a_wider_grid_is_held_against_those_that_came_so_far():
    """The edge that was added is one more rate: it need not beat what stopped, and stops where it is hopeless."""
    old = curves({0.003: 1.5, 0.01: 1.0})
    old |= {run: curve[: FIRST[0]] for run, curve in curves({0.001: 2.9}).items()}  # stopped at the first rung
    told = tuple((seed, rate, curve) for (seed, rate), curve in old.items())
    new = curves({0.03: 2.9})
    for place in (FIRST, SECOND):
        mine = {run: curve[: place[0]] for run, curve in new.items()}
        pool = {rate for _, rate in RULE.losses(old | mine, place[0], POINTS)}
        assert pool == {0.003, 0.01, 0.03} | ({0.001} if place == FIRST else set())
        stays = Contest(RULE, told).staying(mine, *place, POINTS)
        assert stays <= {0.03}, "only what is trained can stop"
    for end, stays in ((9.0, set()), (0.5, {0.03})):
        mine = curves({0.03: end}, SECOND[0])
        assert Contest(RULE, told).staying(mine, *SECOND, POINTS) == stays


def test_rungs_stand_within_any_training():
    for whole in range(1, 60):
        places = [point for point, _ in RULE.at(whole)]
        assert places == sorted(set(places)) and all(1 <= point < whole for point in places)
    assert [point for point, _ in RULE.at(1)] == [] and [point for point, _ in RULE.at(2)] == [1]


def test_the_rule_is_plain_data_and_comes_back():
    for rule in (RULE, HALVING):
        assert Halving.of(json.loads(json.dumps(rule.told(), allow_nan=False))) == rule
    assert Halving.of(None) is None


@given(st.integers(1, 12), st.integers(0, 100))
def test_no_play_leaves_less_than_the_least(rates, seed):
    import random

    rng = random.Random(seed)
    live, taken, begun = {0.001 * 2**k: rng.choice([math.nan, rng.uniform(0, 4)]) for k in range(rates)}, 0.0, 0.0
    for place in (FIRST, SECOND):
        taken, begun = taken + len(live) * (place[0] / POINTS - begun), place[0] / POINTS
        stays = staying(live, place)
        live = {rate: end for rate, end in live.items() if rate in stays}
    taken += len(live) * (1 - begun)
    assert RULE.least(rates) <= taken / rates + 1e-12 <= 1 + 1e-12


# Planted bugs


def test_planted_the_worst_goes_on(monkeypatch):
    mean = Halving.losses
    monkeypatch.setattr(Halving, "losses", lambda *of: {run: -loss for run, loss in mean(*of).items()})
    with pytest.raises((AssertionError, ExceptionGroup)):
        test_the_best_goes_on_and_what_diverged_does_not()


def test_planted_higher_rates_are_given_up_like_lower_ones(monkeypatch):
    monkeypatch.setattr(f"{__name__}.FIRST", (FIRST[0], Rung(0.2, lower=0.5, higher=0.5)))
    with pytest.raises((AssertionError, ExceptionGroup)):
        test_a_higher_rate_stops_only_where_it_is_worse_than_it_began()


def test_planted_what_diverged_goes_on(monkeypatch):
    monkeypatch.setattr("qkvlab.training.halving._mean", lambda losses: sum(x for x in losses if math.isfinite(x)))
    with pytest.raises((AssertionError, ExceptionGroup)):
        test_the_best_goes_on_and_what_diverged_does_not()
