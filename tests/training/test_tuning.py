"""Rates that go on are what they are without a contest; what stops is recorded where it stopped."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from qkvlab import designs
from qkvlab.study.records import DRIFT
from qkvlab.tasks.library import TASK as LIBRARY
from qkvlab.training import recipe, together, tuning
from qkvlab.training.halving import STOPPED, Contest, Halving, Rung
from qkvlab.training.one import train_one
from qkvlab.training.recipe import Run, Trained
from qkvlab.training.together import Together, train_compiled, train_together
from qkvlab.training.tuning import train_rates
from qkvlab.training.workers import Order, train

TASK = replace(LIBRARY, train_steps=50)
SETTING, DESIGN = "synonym/learned", designs.parse("QKV")
RATES, SEEDS = (0.0001, 0.003, 0.01, 1e6), (0, 1)
RUNS = [Run(seed, rate) for rate in RATES for seed in SEEDS]
SHARP = Contest(Halving((Rung(0.2, lower=0.9, higher=0.5), Rung(0.5, lower=0.0, higher=0.0)), window=0.1, enough=0.0))
STEPS, FIRST, SECOND = 50, 10, 25


@pytest.fixture(scope="module")
def whole() -> list[Trained]:
    return train_together(TASK, SETTING, DESIGN, RUNS)


def survivors(found: list[Trained]) -> list[int]:
    return [i for i, one in enumerate(found) if STOPPED not in one.metrics]


def holds(found: list[Trained], whole: list[Trained]) -> None:
    """The contract of a contest, against the same runs without one."""
    assert [one.steps for one in found] == [FIRST, FIRST, *[one.steps for one in found[2:6]], FIRST, FIRST]
    assert {one.steps for one in found} == {FIRST, SECOND, STEPS} and len(survivors(found)) == len(SEEDS)
    for run, one, other in zip(RUNS, found, whole, strict=True):
        begun = len(one.losses)
        assert begun == one.steps * recipe.POINTS // STEPS
        assert one.losses == pytest.approx(other.losses[:begun], rel=DRIFT, abs=DRIFT, nan_ok=True)
        if one.steps < STEPS:
            assert list(one.metrics) == [STOPPED]
            assert one.metrics[STOPPED] == pytest.approx(sum(one.losses[-5:]) / 5, nan_ok=True)
            assert one.diverged == (run.lr == 1e6) == math.isnan(one.metrics[STOPPED])
        else:
            assert one.metrics == pytest.approx(other.metrics, abs=5e-3) and not one.diverged
            for name in one.state:
                assert (one.state[name] - other.state[name]).abs().max() < 5 * DRIFT


@pytest.mark.parametrize("size", [8, 5, 3, 1])
def test_survivors_are_what_they_are_without_a_contest(whole, size):
    """In groups of any size, since survivors are packed together anew."""
    holds(train_rates(TASK, SETTING, DESIGN, RUNS, contest=SHARP, size=size).trained, whole)


def test_survivors_of_compiled_steps_are_the_same_to_the_bit():
    """A program holds as many models before a rung as behind it."""
    plain = train_compiled(TASK, SETTING, DESIGN, RUNS, unit=4)
    found = train_rates(TASK, SETTING, DESIGN, RUNS, contest=SHARP, size=4, compile=True)
    assert found.remark == plain.remark == ""
    holds(found.trained, plain.trained)
    for i in survivors(found.trained):
        one, other = found.trained[i], plain.trained[i]
        assert one.losses == other.losses and all(torch.equal(one.state[n], other.state[n]) for n in one.state)


def test_a_survivor_is_trained_as_anybody_would():
    found = train_rates(TASK, SETTING, DESIGN, RUNS, contest=SHARP, size=8).trained
    (i, _) = survivors(found)
    alone = train_one(TASK, SETTING, DESIGN, RUNS[i])
    assert found[i].metrics == pytest.approx(alone.metrics, abs=5e-3)
    assert found[i].losses == pytest.approx(alone.losses, abs=1e-2)


def test_who_stops_takes_no_further_step(monkeypatch):
    """Its time is saved: models of a step are counted."""
    counted = []
    step = Together.step
    monkeypatch.setattr(Together, "step", lambda self: (counted.append(len(self.runs)), step(self))[1])
    found = train_rates(TASK, SETTING, DESIGN, RUNS, contest=SHARP, size=3).trained
    assert sum(counted) == sum(one.steps for one in found) < 0.6 * len(RUNS) * STEPS
    assert max(counted) <= 3


def test_edges_that_were_added_may_all_stop(whole):
    rivals = tuple((run.seed, run.lr, one.losses) for run, one in zip(RUNS, whole, strict=True) if run.lr < 1e6)
    runs = [Run(seed, 1e5) for seed in SEEDS]
    found = train_rates(TASK, SETTING, DESIGN, runs, contest=Contest(SHARP.halving, rivals), size=8).trained
    assert [one.steps for one in found] == [FIRST, FIRST] and all(STOPPED in one.metrics for one in found)


def test_where_all_diverge_all_go_on():
    runs = [Run(seed, rate) for rate in (1e6, 1e7) for seed in SEEDS]
    found = train_rates(TASK, "synonym/fixed", DESIGN, runs, contest=SHARP, size=8).trained
    assert all(one.diverged and one.steps == STEPS and STOPPED not in one.metrics for one in found)


def test_a_worker_says_what_stopped_where():
    runs = tuple((run.seed, run.lr) for run in RUNS)
    found = train(Order("library", "same-word/fixed", "uniform", runs, contest=SHARP, at_once=3))
    every = LIBRARY.steps("same-word/fixed")
    assert found.models == 3 and set(found.steps) == {every // 5, every // 2, every}
    assert [STOPPED in each for each in found.metrics] == [steps < every for steps in found.steps]
    plain = train(Order("library", "same-word/fixed", "uniform", runs[:1]))
    assert plain.steps == [every] and STOPPED not in plain.metrics[0]


# Planted bugs


def test_planted_survivors_that_start_their_moments_anew(whole, monkeypatch):
    monkeypatch.setattr(together.StackedAdamW, "resume", lambda self, moments, steps: None)
    with pytest.raises(AssertionError):
        test_survivors_are_what_they_are_without_a_contest(whole, 8)


def test_planted_survivors_on_the_data_of_others(whole, monkeypatch):
    joined = tuning._joined

    def mixed(seats):
        new = joined(seats)
        new.inputs = [array.flip(1) for array in new.inputs]
        return new

    monkeypatch.setattr(tuning, "_joined", mixed)
    with pytest.raises(AssertionError):
        test_survivors_are_what_they_are_without_a_contest(whole, 8)


def test_planted_a_schedule_that_begins_anew(whole, monkeypatch):
    joined = tuning._joined

    def restarted(seats):
        new = joined(seats)
        scale = new.optimiser.scale
        new.optimiser.scale = lambda factor: scale(min(1.0, 2 * factor))
        return new

    monkeypatch.setattr(tuning, "_joined", restarted)
    with pytest.raises(AssertionError):
        test_survivors_are_what_they_are_without_a_contest(whole, 8)


def test_planted_a_rule_that_stops_the_best(whole, monkeypatch):
    monkeypatch.setattr(Contest, "staying", lambda self, curves, *place: {max(rate for _, rate in curves)})
    with pytest.raises(AssertionError):
        test_survivors_are_what_they_are_without_a_contest(whole, 8)
