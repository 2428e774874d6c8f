"""The decision code: each word where it is due, the gate, and the first word that stands."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkvlab.evidence import Outcome, Reason, Rule, Word, beats_floor, decide, intervals, paired, rate

DELTA = 0.05
RULE = Rule(delta=DELTA, alpha=0.05)
GONE = Outcome(math.nan, diverged=True)


def runs(values: Iterable[float]) -> list[Outcome]:
    return [Outcome(float(v)) for v in values]


def flat(value: float, n: int = 60) -> list[Outcome]:
    return runs([value] * n)


FLOOR = flat(0.9)


# --- the words


def test_a_large_difference_takes_eight_seeds() -> None:
    found = decide(flat(0.1), flat(0.5), FLOOR, RULE)
    assert (found.verdict, found.reason, found.n, found.decided) == ("better", "", 8, True)
    assert found.estimate == -0.2
    assert found.unclipped_mean == pytest.approx(-0.4)
    assert found.share_clipped == 1.0
    assert decide(flat(0.5), flat(0.1), FLOOR, RULE).verdict == "worse"


def test_no_difference_takes_eighteen_seeds() -> None:
    found = decide(flat(0.3), flat(0.3), FLOOR, RULE)
    assert (found.verdict, found.reason, found.n) == ("equivalent", "", 18)
    assert -DELTA < found.low < 0 < found.high < DELTA
    assert decide(flat(0.3), flat(0.3), FLOOR, dataclasses.replace(RULE, alpha=0.05 / 30)).n == 32


@pytest.mark.parametrize("sign", [1, -1])
def test_both_can_hold(sign: int) -> None:
    # A wide delta beside a narrow spread: the look that excludes 0 also excludes delta.
    rule = Rule(delta=0.5, alpha=0.05, clip=1.1, min_seeds=40)
    found = decide(runs([0.3 + sign * 0.25] * 60), flat(0.3), None, rule)
    assert found.verdict == ("worse, by less than delta" if sign > 0 else "better, by less than delta")
    assert found.n == 40
    assert found.decided


def test_too_few_seeds_decide_nothing() -> None:
    found = decide(flat(0.0, 7), flat(9.0, 7), FLOOR, RULE)
    assert (found.verdict, found.reason, found.n, found.decided) == ("undecided", "too few seeds", 7, False)
    # The interval is already clear of 0, and still nothing is said.
    loose = dataclasses.replace(RULE, alpha=0.9)
    early = decide(flat(0.0, 7), flat(9.0, 7), FLOOR, loose)
    assert early.high < 0
    assert early.verdict == "undecided"


def test_an_empty_comparison_has_the_whole_range() -> None:
    found = decide([], flat(0.3), FLOOR, RULE)
    assert (found.n, found.low, found.high, found.verdict) == (0, -RULE.clip, RULE.clip, "undecided")
    assert math.isnan(found.estimate)
    assert (found.rate.low, found.rate.high) == (0.0, 1.0)


def test_a_wide_interval_is_undecided_at_the_last_look() -> None:
    found = decide(runs([0.4, 0.2] * 10), flat(0.3, 25), FLOOR, RULE)
    assert (found.verdict, found.reason, found.n) == ("undecided", "interval still wide", 20)


def test_an_empty_interval_stops_and_says_so() -> None:
    # Far up, then far down: L was already high when U comes below it. Looks before the 150th are not read.
    rule = dataclasses.replace(RULE, min_seeds=150)
    found = decide(runs([9.0] * 40 + [-9.0] * 160), flat(0.0, 200), FLOOR, rule)
    assert (found.verdict, found.reason, found.n, found.decided) == (
        "inconsistent",
        "interval empty",
        150,
        True,
    )
    assert found.low >= found.high


def test_every_word_and_reason_is_named() -> None:
    assert set(get_args(Word)) >= {"better", "worse", "equivalent", "undecided", "inconsistent"}
    assert "" in get_args(Reason)
    assert len(get_args(Word)) == 8


# --- is there anything to be equivalent about


def test_equivalence_needs_a_baseline_above_the_floor() -> None:
    found = decide(flat(0.3), flat(0.3), flat(0.32), RULE)
    assert (found.verdict, found.reason, found.decided) == ("nothing to compare", "floor not beaten", True)
    assert found.n == 18


def test_a_floor_that_still_waits_leaves_it_undecided() -> None:
    found = decide(flat(0.3), flat(0.3), flat(0.9, 12), RULE)
    assert (found.verdict, found.reason, found.n) == ("undecided", "waiting for the floor", 18)
    assert decide(flat(0.3), flat(0.3), [], RULE).reason == "waiting for the floor"
    assert decide(flat(0.3), flat(0.3), runs([0.3 + 2 * DELTA] * 60), RULE).reason == "waiting for the floor"


def test_the_floor_may_be_read_further_than_the_pair() -> None:
    near = flat(0.45)  # ahead by 3 delta of the 2 delta asked for: more seeds than the pair needs
    assert beats_floor(flat(0.3, 18), near, RULE) == "waiting"
    assert decide(flat(0.3, 18), flat(0.3, 18), near, RULE).verdict == "undecided"
    assert decide(flat(0.3, 18), flat(0.3, 60), near, RULE).verdict == "equivalent"


def test_without_a_floor_nothing_is_called_equivalent() -> None:
    found = decide(flat(0.3), flat(0.3), None, RULE)
    assert (found.verdict, found.reason) == ("nothing to compare", "no floor")
    assert decide(flat(0.1), flat(0.5), None, RULE).verdict == "better"


def test_a_proven_difference_needs_no_floor() -> None:
    assert decide(flat(0.1), flat(0.5), flat(0.5), RULE).verdict == "better"
    assert decide(flat(0.9), flat(0.5), [], RULE).verdict == "worse"


def test_uniform_itself_is_an_ordinary_design() -> None:
    assert decide(FLOOR, flat(0.3), FLOOR, RULE).verdict == "worse"
    assert decide(FLOOR, FLOOR, FLOOR, RULE).reason == "floor not beaten"


@pytest.mark.parametrize("arm", ["design", "baseline", "both"])
@pytest.mark.parametrize(("losses", "word"), [(1, "equivalent"), (3, "nothing to compare")])
def test_equivalence_needs_runs_that_survive(arm: str, losses: int, word: str) -> None:
    # The first look is the 20th: 1 of 20 is 5 %, 3 of 20 is 15 %. A wide delta keeps the interval within it.
    rule = Rule(delta=0.2, alpha=0.05, clip=0.41, gate=0.4, min_seeds=20)
    spoiled = [GONE] * losses + flat(0.3, 57)
    design, baseline = (spoiled if arm in (x, "both") else flat(0.3) for x in ("design", "baseline"))
    far = flat(5.0, 4000)
    found = decide(design, [*baseline, *flat(0.3, 4000)], far, rule)
    assert found.verdict == word
    assert found.reason == ("too many diverged" if losses == 3 else "")
    assert found.diverged == (losses if arm != "baseline" else 0)
    assert found.baseline_diverged == (losses if arm != "design" else 0)
    assert found.rate == rate([run.lost for run in design[: found.n]], rule.alpha)
    assert found.baseline_rate == rate([run.lost for run in baseline[: found.n]], rule.alpha)


def test_diverging_more_is_worse() -> None:
    design = [GONE if i % 2 else Outcome(0.3) for i in range(60)]
    found = decide(design, flat(0.3), FLOOR, RULE)
    assert found.verdict == "worse"
    assert found.diverged > 0
    assert found.unclipped_mean == 0.0
    assert decide(flat(0.3), design, FLOOR, RULE).verdict == "better"


def test_a_nan_that_is_not_marked_counts_as_diverged() -> None:
    marked = [GONE if i % 3 == 0 else Outcome(0.3) for i in range(60)]
    silent = [Outcome(math.nan) if run.lost else run for run in marked]
    assert decide(silent, flat(0.3), FLOOR, RULE) == decide(marked, flat(0.3), FLOOR, RULE)


# --- the first word stands

arms = st.lists(
    st.tuples(st.sampled_from([0.0, 0.28, 0.3, 0.31, 0.35, 0.9]), st.sampled_from([0.3, 0.3, 0.32, math.nan])),
    min_size=0,
    max_size=50,
)


@settings(max_examples=100, deadline=None)
@given(arms, st.integers(0, 50), st.integers(0, 60), st.sampled_from([0.05, 0.5]), st.sampled_from([0.33, 0.9]))
def test_later_data_never_change_a_verdict(
    both: list[tuple[float, float]], cut: int, floor_cut: int, alpha: float, level: float
) -> None:
    rule = Rule(delta=0.1, alpha=alpha)
    design, baseline = runs(a for a, _ in both), runs(b for _, b in both)
    uniform = flat(level)
    early = decide(design[:cut], baseline, uniform[:floor_cut], rule)
    late = decide(design, baseline + flat(0.3, 20), uniform, rule)
    if early.decided:
        assert repr(late) == repr(early)
    else:
        assert late.n >= early.n


@pytest.mark.parametrize("quick", ["pair", "floor"])
def test_the_verdict_does_not_depend_on_which_was_quicker(quick: str) -> None:
    # Within delta at the 18th seed; later the pair would be clear of 0. Both orders end at look 18.
    design = runs([0.3] * 25 + [0.26] * 175)
    baseline, uniform = flat(0.3, 200), flat(0.9, 200)
    first = (
        decide(design, baseline, uniform[:10], RULE)
        if quick == "pair"
        else decide(design[:18], baseline, uniform, RULE)
    )
    assert first.verdict == ("undecided" if quick == "pair" else "equivalent")
    last = decide(design, baseline, uniform, RULE)
    assert (last.verdict, last.n) == ("equivalent", 18)


@settings(max_examples=60, deadline=None)
@given(arms)
def test_swapping_the_arms_swaps_the_words(both: list[tuple[float, float]]) -> None:
    a, b = runs(x for x, _ in both), runs(y for _, y in both)
    one, other = decide(a, b, None, RULE), decide(b, a, None, RULE)
    swapped = {"better": "worse", "worse": "better"}
    head, _, tail = one.verdict.partition(",")
    assert other.verdict == swapped.get(head, head) + ("," + tail if tail else "")
    assert (other.n, other.low, other.high) == (one.n, -one.high, -one.low)
    assert other.rate == one.baseline_rate


def test_numbers_are_those_of_the_look_it_stopped_at() -> None:
    rng = np.random.default_rng(2)
    design, baseline = runs(rng.normal(0.42, 0.05, 64)), runs(rng.normal(0.3, 0.05, 64))
    found = decide(design, baseline, FLOOR, RULE)
    assert found.verdict == "worse"
    assert 8 <= found.n < 64
    read = paired(design[: found.n], baseline[: found.n], RULE.clip)
    bounds = intervals(read.values, RULE.clip, RULE.alpha)
    assert found.low == pytest.approx(bounds.low[-1], abs=1e-12)
    assert found.high == pytest.approx(bounds.high[-1], abs=1e-12)
    assert bounds.low[-2] <= 0 < bounds.low[-1]
    assert found.estimate == pytest.approx(read.values.mean())
    assert found.unclipped_mean == read.unclipped_mean


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=8, max_size=40), st.sampled_from([0.02, 0.4]))
def test_the_floor_agrees_with_its_interval(lead: list[float], alpha: float) -> None:
    rule = Rule(delta=0.2, alpha=alpha)
    baseline, uniform = flat(0.0, len(lead)), runs(lead)
    bounds = intervals(np.clip(lead, -rule.clip, rule.clip), rule.clip, alpha)
    found = beats_floor(baseline, uniform, rule)
    passed, failed = bounds.low > rule.gate, bounds.high < rule.gate
    first = int(np.argmax(passed | failed))
    expected = "waiting" if not (passed | failed).any() else "beaten" if passed[first] else "not beaten"
    assert found == expected


def test_a_whole_study_is_judged_in_about_a_second() -> None:
    rng = np.random.default_rng(0)
    base, uniform = runs(rng.normal(0.3, 0.1, 64)), runs(rng.normal(0.9, 0.1, 64))
    designs = [runs(rng.normal(0.3, 0.1, 64)) for _ in range(150)]
    rule = dataclasses.replace(RULE, alpha=0.05 / 150)
    start = time.process_time()
    words = {decide(design, base, uniform, rule).verdict for design in designs}
    assert time.process_time() - start < 5  # about 0.6 s on one quiet core
    assert words <= {"undecided", "equivalent"}
