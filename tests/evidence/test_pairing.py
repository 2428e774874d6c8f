"""Pairing, clipping, diverged runs and the prefix of the seed list."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkvlab.errors import BadInput
from qkvlab.evidence import Outcome, intervals, leading, paired, prefix

NAN, INF = math.nan, math.inf
outcomes = st.builds(Outcome, st.floats(-5, 5) | st.just(NAN), st.booleans())
pairs = st.lists(st.tuples(outcomes, outcomes), min_size=1, max_size=20)
few = settings(max_examples=80, deadline=None)


def test_difference_is_design_minus_baseline_and_clipped() -> None:
    found = paired([Outcome(1.5), Outcome(3.0), Outcome(0.0)], [Outcome(1.25), Outcome(0.0), Outcome(9.0)], 1.0)
    assert found.values.tolist() == [0.25, 1.0, -1.0]
    assert found.unclipped_mean == pytest.approx((0.25 + 3 - 9) / 3)
    assert found.share_clipped == pytest.approx(2 / 3)
    assert (found.diverged, found.baseline_diverged) == (0, 0)


@pytest.mark.parametrize("gone", [Outcome(0.1, diverged=True), Outcome(NAN), Outcome(INF), Outcome(-INF)])
def test_a_diverged_arm_counts_as_the_clip_against_it(gone: Outcome) -> None:
    fine = Outcome(0.2)
    found = paired([gone, fine, gone, fine], [fine, gone, gone, fine], 0.4)
    assert found.values.tolist() == [0.4, -0.4, 0.0, 0.0]
    assert (found.diverged, found.baseline_diverged) == (2, 2)
    assert found.unclipped_mean == 0.0
    assert found.share_clipped == 0.0


def test_without_a_finite_pair_there_is_no_unclipped_mean() -> None:
    found = paired([Outcome(NAN)], [Outcome(1.0)], 1.0)
    assert math.isnan(found.unclipped_mean)
    assert found.share_clipped == 0.0
    empty = paired([], [], 1.0)
    assert len(empty) == 0
    assert math.isnan(empty.unclipped_mean)


@pytest.mark.filterwarnings("error")
def test_losses_at_the_end_of_float64_still_pair() -> None:
    found = paired([Outcome(1.7e308)], [Outcome(-1.7e308)], 1.0)
    assert found.values.tolist() == [1.0]


@few
@given(pairs)
def test_swapping_the_arms_negates(both: list[tuple[Outcome, Outcome]]) -> None:
    a, b = [x for x, _ in both], [y for _, y in both]
    one, other = paired(a, b, 1.0), paired(b, a, 1.0)
    np.testing.assert_array_equal(one.values, -other.values)
    assert (one.diverged, one.baseline_diverged) == (other.baseline_diverged, other.diverged)
    np.testing.assert_array_equal(intervals(one.values, 1, 0.1).low, -intervals(other.values, 1, 0.1).high)


@few
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(1, 100))
def test_how_far_beyond_the_clip_does_not_matter(raw: list[float], factor: float) -> None:
    base = [Outcome(0.0)] * len(raw)
    near = paired([Outcome(v) for v in raw], base, 1.0)
    far = paired([Outcome(v * factor if abs(v) >= 1 else v) for v in raw], base, 1.0)
    np.testing.assert_array_equal(near.values, far.values)


@few
@given(st.permutations(range(12)), st.integers(0, 12), st.integers(0, 12))
def test_the_order_of_completion_never_shows(finished: list[int], a: int, b: int) -> None:
    seeds = list(range(100, 112))
    design = {seeds[i]: Outcome(float(i)) for i in finished[:a]}
    baseline = {seeds[i]: Outcome(-float(i)) for i in finished[:b]}
    one, other = prefix(seeds, design, baseline)
    n = len(one)
    assert len(other) == n
    assert [run.value for run in one] == [float(i) for i in range(n)]
    assert [run.value for run in other] == [-float(i) for i in range(n)]
    assert n == 12 or seeds[n] not in design or seeds[n] not in baseline
    assert prefix(seeds, dict(reversed(design.items())), baseline) == (one, other)


def test_runs_of_other_seeds_are_never_looked_at() -> None:
    tuning = {1: Outcome(0.0), 2: Outcome(0.0)}
    assert leading([10, 11], {**tuning, 10: Outcome(5.0)}) == [Outcome(5.0)]
    assert leading([10, 11], tuning) == []


def test_a_seed_that_stands_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="7 twice"):
        leading([5, 7, 7], {})


def test_arms_of_different_length_are_refused() -> None:
    with pytest.raises(BadInput, match=r"1 design and 2 baseline.*prefix"):
        paired([Outcome(1.0)], [Outcome(1.0)] * 2, 1.0)


@pytest.mark.parametrize("clip", [0.0, -1.0, NAN, INF])
def test_an_impossible_clip_is_refused(clip: float) -> None:
    with pytest.raises(BadInput, match="clip"):
        paired([], [], clip)
