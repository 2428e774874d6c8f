"""The betting sequence against exact numbers, rationals and its own definition."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkvlab.errors import BadInput
from qkvlab.evidence import DEFAULT_BETS, intervals, wealth_down, wealth_up

D = (0.30, 0.10, 0.40, -0.20, 0.50, 0.25, 0.35, 0.15)
THREE = (0.25, 0.5, 0.75)
DELTA = 0.25

bounded = st.lists(st.floats(-1, 1), min_size=1, max_size=30)
claims = st.floats(-0.95, 0.95)
few = settings(max_examples=80, deadline=None)


def exact(differences: list[Fraction], m: Fraction, bets: tuple[Fraction, ...]) -> Fraction:
    """K+ for R = 1 in rationals, written from the formula and sharing nothing with the package."""
    purses = [math.prod((1 + b * (d - m) / (1 + m) for d in differences), start=Fraction(1)) for b in bets]
    return sum(purses, start=Fraction(0)) / len(bets)


# --- the published check values


def test_wealth_equals_the_check_values() -> None:
    up, down = wealth_up(D, 0, 1, THREE), wealth_down(D, 0, 1, THREE)
    assert up[0] == pytest.approx(1.15, rel=1e-15)
    assert up[1] == pytest.approx(967 / 800, rel=1e-15)
    assert up[3] == pytest.approx(1.303568750, abs=5e-10)
    assert up[7] == pytest.approx(2.402162747, abs=5e-10)
    assert down[7] == pytest.approx(0.387237327, abs=5e-10)


def test_the_second_wealth_is_967_over_800_exactly() -> None:
    found = exact([Fraction(3, 10), Fraction(1, 10)], Fraction(0), (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)))
    assert found == Fraction(967, 800)
    assert exact([Fraction(3, 10)], Fraction(0), (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))) == Fraction(23, 20)


@pytest.mark.parametrize(
    ("bets", "up", "down"), [(THREE, 11.137490149, 1.021593316), (DEFAULT_BETS, 13.901600, 1.004520)]
)
def test_wealth_against_delta_equals_the_check_values(bets: tuple[float, ...], up: float, down: float) -> None:
    digits = 5e-10 if bets == THREE else 5e-7
    assert wealth_up(D, -DELTA, 1, bets)[-1] == pytest.approx(up, abs=digits)
    assert wealth_down(D, DELTA, 1, bets)[-1] == pytest.approx(down, abs=digits)


@pytest.mark.parametrize(("bets", "low", "high"), [(THREE, -0.392258, 0.625950), (DEFAULT_BETS, -0.355502, 0.603931)])
def test_interval_equals_the_check_values(bets: tuple[float, ...], low: float, high: float) -> None:
    found = intervals(D, 1, 0.05, bets)
    assert found.low[-1] == pytest.approx(low, abs=5e-7)
    assert found.high[-1] == pytest.approx(high, abs=5e-7)


def test_first_looks_that_decide_equal_the_check_values() -> None:
    largest = intervals(np.ones(20), 1, 0.05)
    assert int(np.argmax(largest.low > 0)) + 1 == 8
    zeros = intervals(np.zeros(40), 4 * 0.05, 0.05)
    inside = (zeros.low > -0.05) & (zeros.high < 0.05)
    assert int(np.argmax(inside)) + 1 == 18
    thirtieth = intervals(np.zeros(40), 4 * 0.05, 0.05 / 30)
    inside = (thirtieth.low > -0.05) & (thirtieth.high < 0.05)
    assert int(np.argmax(inside)) + 1 == 32


# --- the game is fair


@pytest.mark.parametrize(
    ("values", "chances"),
    [
        ((Fraction(1), Fraction(-1)), (Fraction(1, 2), Fraction(1, 2))),
        ((Fraction(4, 5), Fraction(-1, 5)), (Fraction(1, 5), Fraction(4, 5))),
        ((Fraction(-1), Fraction(1, 10)), (Fraction(1, 7), Fraction(6, 7))),
        ((Fraction(-3, 5), Fraction(0), Fraction(9, 10)), (Fraction(1, 3), Fraction(1, 2), Fraction(1, 6))),
    ],
)
def test_wealth_has_mean_one_by_enumeration(values: tuple[Fraction, ...], chances: tuple[Fraction, ...]) -> None:
    bets = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
    m = sum((v * p for v, p in zip(values, chances, strict=True)), start=Fraction(0))
    chance = dict(zip(values, chances, strict=True))
    for n in range(1, 6):
        up = down = Fraction(0)
        for path in itertools.product(values, repeat=n):
            weight = math.prod((chance[v] for v in path), start=Fraction(1))
            k_up, k_down = exact(list(path), m, bets), exact([-v for v in path], -m, bets)
            up, down = up + weight * k_up, down + weight * k_down
            numbers = [float(v) for v in path]
            assert wealth_up(numbers, float(m), 1, THREE)[-1] == pytest.approx(float(k_up), rel=1e-12)
            assert wealth_down(numbers, float(m), 1, THREE)[-1] == pytest.approx(float(k_down), rel=1e-12)
        assert up == 1
        assert down == 1


def test_registered_weights_mix_the_bets() -> None:
    weights = (0.5, 0.3, 0.2)
    single = [wealth_up(D, 0.1, 1, (b,)) for b in THREE]
    mixed = sum(w * k for w, k in zip(weights, single, strict=True))
    np.testing.assert_allclose(wealth_up(D, 0.1, 1, THREE, weights), mixed, rtol=1e-14)
    assert intervals(D, 1, 0.05, THREE, (1 / 3,) * 3).low[-1] == pytest.approx(-0.392258, abs=5e-7)


def test_leading_axes_are_separate_experiments() -> None:
    table = np.array([D, [-d for d in D]])
    np.testing.assert_array_equal(wealth_up(table, 0.2, 1)[0], wealth_up(D, 0.2, 1))
    np.testing.assert_array_equal(wealth_up(table, 0.2, 1)[1], wealth_up(table[1], 0.2, 1))


# --- properties


@few
@given(bounded, claims, claims)
def test_wealth_is_monotone_in_the_claim(differences: list[float], one: float, other: float) -> None:
    small, large = sorted((one, other))
    slack = 1 + 1e-12
    assert (wealth_up(differences, large, 1) <= wealth_up(differences, small, 1) * slack).all()
    assert (wealth_down(differences, small, 1) <= wealth_down(differences, large, 1) * slack).all()


@few
@given(bounded, st.sampled_from([0.01, 0.05, 0.3]))
def test_ends_are_where_the_wealth_reaches_its_target(differences: list[float], alpha: float) -> None:
    found = intervals(differences, 1, alpha)
    for m in np.linspace(-0.999, 0.999, 41):
        up = np.maximum.accumulate(wealth_up(differences, m, 1))
        down = np.maximum.accumulate(wealth_down(differences, m, 1))
        clear = 1e-9
        assert not ((m < found.low - clear) & (up < 2 / alpha)).any()
        assert not ((m > found.low + clear) & (up > 2 / alpha)).any()
        assert not ((m > found.high + clear) & (down < 2 / alpha)).any()
        assert not ((m < found.high - clear) & (down > 2 / alpha)).any()


@few
@given(bounded)
def test_intervals_are_nested_and_inside_the_range(differences: list[float]) -> None:
    found = intervals(differences, 1, 0.2)
    assert (np.diff(found.low) >= 0).all()
    assert (np.diff(found.high) <= 0).all()
    assert (found.low >= -1).all()
    assert (found.high <= 1).all()


@few
@given(bounded)
def test_a_prefix_has_the_same_intervals(differences: list[float]) -> None:
    whole, half = intervals(differences, 1, 0.1), intervals(differences[: len(differences) // 2], 1, 0.1)
    np.testing.assert_allclose(whole.low[: len(half)], half.low, rtol=0, atol=1e-11)
    np.testing.assert_allclose(whole.high[: len(half)], half.high, rtol=0, atol=1e-11)


@few
@given(bounded)
def test_swapping_the_arms_mirrors_the_interval(differences: list[float]) -> None:
    one, other = intervals(differences, 1, 0.1), intervals([-d for d in differences], 1, 0.1)
    np.testing.assert_array_equal(one.low, -other.high)
    np.testing.assert_array_equal(one.high, -other.low)


@few
@given(bounded, st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_a_smaller_alpha_never_narrows(differences: list[float], one: float, other: float) -> None:
    strict, loose = (intervals(differences, 1, alpha) for alpha in sorted((one, other)))
    assert (strict.low <= loose.low + 1e-11).all()
    assert (strict.high >= loose.high - 1e-11).all()


@few
@given(bounded, st.sampled_from([2.0**-20, 0.25, 2.0**30]))
def test_units_do_not_matter(differences: list[float], unit: float) -> None:
    one, other = intervals(differences, 1, 0.1), intervals(np.array(differences) * unit, unit, 0.1)
    np.testing.assert_allclose(other.low, one.low * unit, rtol=1e-9, atol=unit * 1e-11)
    np.testing.assert_allclose(other.high, one.high * unit, rtol=1e-9, atol=unit * 1e-11)


# --- the corners


def test_no_root_leaves_the_end_of_the_range() -> None:
    found = intervals(-np.ones(50), 1, 0.05)
    assert (found.low == -1).all()
    assert found.high[-1] < -0.8
    assert found.high[-1] > -1


def test_one_difference_next_to_the_edge_among_many_on_it() -> None:
    found = intervals(np.r_[-np.ones(400), -1 + 1e-16, -1 + 1e-9, 1.0], 1, 0.05)
    assert np.isfinite(found.low).all()
    assert (found.low >= -1).all()
    assert (found.low < -0.9).all()


def test_a_thousand_seeds_are_worked_through_in_blocks() -> None:
    differences = np.random.default_rng(3).uniform(-1, 1, 1000)
    found = intervals(differences, 1, 0.05)
    assert wealth_up(differences[:700], found.low[699] + 1e-9, 1)[-1] < 40 * (1 + 1e-6)
    assert -0.15 < found.low[-1] < differences.mean() < found.high[-1] < 0.15


def test_drifting_data_end_in_an_empty_interval() -> None:
    found = intervals(np.r_[np.ones(60), -np.ones(200)], 1, 0.05)
    assert not found.empty[59]
    assert found.empty[-1]


def test_no_differences_give_no_looks() -> None:
    found = intervals([], 1, 0.05)
    assert len(found) == 0
    assert found.empty.size == 0


@pytest.mark.filterwarnings("error")
def test_enormous_wealth_is_infinite_without_a_warning() -> None:
    assert wealth_up(np.ones(3000), 0, 1)[-1] == math.inf


@pytest.mark.parametrize("call", [wealth_up, wealth_down])
@pytest.mark.parametrize(
    ("differences", "m", "clip", "bets", "weights"),
    [
        ([math.nan], 0.0, 1.0, THREE, None),
        ([1.5], 0.0, 1.0, THREE, None),
        ([0.0], 1.0, 1.0, THREE, None),
        ([0.0], math.nan, 1.0, THREE, None),
        ([0.0], 0.0, 0.0, THREE, None),
        ([0.0], 0.0, math.inf, THREE, None),
        ([0.0], 0.0, 1.0, (), None),
        ([0.0], 0.0, 1.0, (0.5, 1.0), None),
        ([0.0], 0.0, 1.0, (math.nan,), None),
        ([0.0], 0.0, 1.0, THREE, (1.0, 1.0, 1.0)),
        ([0.0], 0.0, 1.0, THREE, (0.5, 0.5)),
        ([0.0], 0.0, 1.0, THREE, (1.5, -0.25, -0.25)),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(call, differences, m, clip, bets, weights) -> None:
    with pytest.raises(BadInput) as caught:
        call(differences, m, clip, bets, weights)
    assert "\n" not in str(caught.value)
    assert "got" in str(caught.value)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_intervals_refuse_an_impossible_alpha(alpha: float) -> None:
    with pytest.raises(BadInput, match="alpha"):
        intervals([0.0], 1, alpha)


def test_intervals_refuse_a_table() -> None:
    with pytest.raises(BadInput, match="one sequence"):
        intervals(np.zeros((2, 3)), 1, 0.05)
