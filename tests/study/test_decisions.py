"""From results to rates and verdicts: what counts, what never does, and what is written down."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_up import SETTING, World, judge, result, spec

from qkvlab.study.cells import Cell
from qkvlab.study.decisions import Findings, choose, extend
from qkvlab.study.registration import register
from qkvlab.study.schedule import due, open_cells
from qkvlab.study.verdicts import document
from qkvlab.tasks.library import Library

FIELDS = [
    "task", "setting", "design", "baseline", "metric", "n", "estimate", "low", "high", "delta", "alpha", "verdict",
    "diverged", "baseline_diverged", "tuned_lr", "params", "flops_per_token", "cache_per_token",
]  # fmt: skip
"""Of a comparison in `verdicts.json`, as the first issue lists them."""
INF = math.inf


# Choosing a rate


@pytest.mark.parametrize(
    ("means", "rate"),
    [
        ({0.001: 0.5, 0.003: 0.1, 0.01: 0.4}, 0.003),
        ({0.001: 0.1, 0.003: 0.5, 0.01: 0.4}, 0.001),
        ({0.001: 0.1, 0.003: 0.1, 0.01: 0.1}, 0.003),
        ({0.001: 0.1, 0.003: 0.1, 0.01: 0.1, 0.03: 0.1}, 0.003),  # of two in the middle the smaller
        ({0.001: 0.9, 0.003: 0.1, 0.01: 0.1004, 0.03: 0.1}, 0.01),
        ({0.03: 0.1, 0.001: 0.1, 0.01: 0.1}, 0.01),  # in order of the rates, not of their arrival
        ({0.001: 0.1, 0.003: 0.9, 0.01: 0.1}, 0.001),
        ({0.001: INF, 0.003: INF, 0.01: INF}, 0.003),
        ({0.001: 0.875, 0.003: INF, 0.01: INF}, 0.001),  # diverged is worst, also behind chance
        ({0.001: 0.1, 0.003: 0.1049, 0.01: 0.1051}, 0.001),
        ({0.5: 0.0}, 0.5),
    ],
)
def test_the_least_mean_and_the_middle_of_ties(means, rate):
    assert choose(means, tie=0.005) == rate


@given(st.dictionaries(st.floats(1e-5, 1.0), st.floats(0, 1) | st.just(INF), min_size=1, max_size=8))
def test_what_is_chosen_is_a_rate_within_the_tie(means):
    rate = choose(means, tie=0.005)
    assert rate in means and means[rate] <= min(means.values()) + 0.005
    shuffled = dict(random.Random(1).sample(sorted(means.items()), len(means)))
    assert choose(shuffled, tie=0.005) == rate


@pytest.mark.parametrize(
    ("chosen", "wider"),
    [
        ([0.003], []),
        ([0.01], [0.0333333]),
        ([0.001], [0.000333333]),
        ([0.01, 0.001, 0.003], [0.000333333, 0.0333333]),
        ([], []),
    ],
)
def test_a_best_rate_at_the_edge_extends_the_grid(chosen, wider):
    rates = [0.001, 0.003, 0.01]
    assert extend(rates, chosen) == sorted([*rates, *wider])
    assert rates == [0.001, 0.003, 0.01]


def test_a_grid_of_one_cannot_grow():
    assert extend([0.003], [0.003]) == [0.003]


def tune(world: World, **changes) -> tuple[Findings, int]:
    """Run all tuning; return the findings and in how many rounds cells were missing."""
    findings, rounds = Findings(register(spec(**changes))), 0
    while missing := findings.tuning(SETTING).missing:
        rounds += 1
        findings.add(result(cell, world) for cell in missing)
    return findings, rounds


def test_every_design_is_tuned_on_the_same_grid():
    findings, rounds = tune(World(best={"XXV": 0.1}, noise=0))
    tuning = findings.tuning(SETTING)
    assert rounds == 3 and tuning.rates == (0.001, 0.003, 0.01, 0.0333333, 0.111111)
    assert tuning.chosen["QKV"] == 0.003 and tuning.chosen["XXV"] == pytest.approx(0.111111)
    tried = {name: {c.lr for c in findings.results if c.design == name} for name in findings.registration["designs"]}
    assert set(map(frozenset, tried.values())) == {frozenset(tuning.rates)}


@pytest.mark.parametrize("best", [1e-5, 1.0])
def test_the_grid_grows_at_most_twice(best):
    findings, rounds = tune(World(best=dict.fromkeys(("QKV", "QQV", "XXV"), best), noise=0))
    assert rounds == 3 and len(findings.tuning(SETTING).rates) == 5
    edge = findings.tuning(SETTING).rates[0 if best < 0.01 else -1]
    assert findings.tuning(SETTING).chosen["QQV"] == edge  # the edge is taken when no more may be tried


def test_both_edges_grow_together():
    findings, _ = tune(World(best={"QKV": 1e-5, "QQV": 1.0}, noise=0))
    assert len(findings.tuning(SETTING).rates) == 7


def test_a_rate_that_diverged_once_is_worst():
    findings = Findings(register(spec()))
    while missing := findings.tuning(SETTING).missing:
        for cell in missing:
            one = result(cell, World(noise=0))
            lost = (cell.design, cell.lr, cell.seed) == ("QKV", 0.003, 1)  # with a finite, excellent error
            findings.add([dataclasses.replace(one, diverged=lost)])
    assert findings.tuning(SETTING).chosen == {"QKV": 0.001, "QQV": 0.003, "XXV": 0.003, "uniform": 0.003}


def test_nan_without_divergence_is_worst_too():
    findings = Findings(register(spec()))
    for cell in findings.tuning(SETTING).missing:
        one = result(cell, World(noise=0))
        findings.add([dataclasses.replace(one, metrics={}) if cell.lr == 0.003 else one])
    assert 0.003 not in findings.tuning(SETTING).chosen.values()


def test_rates_are_chosen_for_all_designs_at_once():
    findings, world = Findings(register(spec())), World()
    cells = findings.tuning(SETTING).missing
    for cell in cells[:-1]:
        findings.add([result(cell, world)])
        assert findings.tuning(SETTING).chosen == {} and cell not in findings.tuning(SETTING).missing
    findings.add([result(cells[-1], world)])
    assert set(findings.tuning(SETTING).chosen) == set(findings.registration["designs"])


# What is judged


def values(findings: Findings, name: str) -> list[float]:
    return [outcome.value for outcome in findings.outcomes(SETTING, name)]


def test_tuning_runs_are_never_judged():
    """Not even where they carry a judging seed and the chosen rate."""
    world = World()
    findings = judge(world, upto=10)
    before, lr = values(findings, "QKV"), findings.tuning(SETTING).chosen["QKV"]
    seeds = findings.registration["seeds"]["judge"]
    findings.add([result(Cell(*SETTING, "QKV", "tune", s, lr), World(means={"QKV": 0.9})) for s in seeds])
    assert values(findings, "QKV") == before and len(before) == 10
    assert findings.tuning(SETTING).chosen["QKV"] == lr  # nor do they choose rates


def test_a_tuning_seed_that_pretends_to_judge_is_not_read():
    findings = judge(World(), upto=10)
    before = values(findings, "QQV")
    lr = findings.tuning(SETTING).chosen["QQV"]
    tuned_on = findings.registration["seeds"]["tune"]
    findings.add([result(Cell(*SETTING, "QQV", "judge", seed, lr), World(means={"QQV": 0.9})) for seed in tuned_on])
    assert values(findings, "QQV") == before


def test_a_seed_cannot_stand_in_both_lists():
    seeds = register(spec(tune_seeds=(1000, 1001)))["seeds"]
    assert not set(seeds["tune"]) & set(seeds["judge"])


def test_only_the_chosen_rate_is_judged():
    findings = judge(World(), upto=10)
    before = values(findings, "QQV")
    seeds = findings.registration["seeds"]["judge"]
    findings.add([result(Cell(*SETTING, "QQV", "judge", s, 0.5), World()) for s in seeds])
    assert values(findings, "QQV") == before


def test_only_a_prefix_of_the_seeds_counts():
    world, plan = World(), register(spec())
    findings = judge(world, upto=0)
    seeds = plan["seeds"]["judge"]
    lr = findings.tuning(SETTING).chosen["QKV"]
    for place in (9, 3, 1, 2):
        findings.add([result(Cell(*SETTING, "QKV", "judge", seeds[place], lr), world)])
        assert values(findings, "QKV") == []
    findings.add([result(Cell(*SETTING, "QKV", "judge", seeds[0], lr), world)])
    assert values(findings, "QKV") == [world.run("QKV", SETTING[1], s, lr)[0] for s in seeds[:4]]
    assert findings.verdict(SETTING, "QQV").n == 0  # the other arm has none


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_does_not_matter(seed):
    world = World(means={"QQV": 0.2}, diverges={"XXV": 0.2}, noise=0.1)
    whole = judge(world, upto=40)
    results = list(whole.results.values())
    random.Random(seed).shuffle(results)
    piecemeal = Findings(whole.registration)
    for one in results:
        piecemeal.add([one])
        piecemeal.verdict(SETTING, random.Random(seed).choice(piecemeal.compared(SETTING)))  # fills what is remembered
    assert document(piecemeal) == document(whole) == document(Findings(whole.registration, results))


def test_clear_worlds_have_clear_verdicts():
    world = World(means={"QQV": 0.1, "XXV": 0.5}, noise=0.005)
    findings = judge(world)
    assert {name: findings.verdict(SETTING, name).verdict for name in findings.compared(SETTING)} == {
        "QQV": "equivalent",
        "XXV": "worse",
        "uniform": "worse",
    }
    assert findings.verdict(SETTING, "XXV").n < 20 < findings.verdict(SETTING, "QQV").n


def test_where_nothing_is_learned_there_is_nothing_to_compare():
    world = World(means=dict.fromkeys(("QKV", "QQV", "XXV"), 0.875), noise=0.005)
    findings = judge(world)
    assert {findings.verdict(SETTING, name).verdict for name in findings.compared(SETTING)} == {"nothing to compare"}


@pytest.mark.parametrize(("bar", "counted"), [(None, True), (0.5, True), (0.05, False)])
def test_only_a_baseline_that_reaches_the_bar_is_judged(monkeypatch, bar, counted):
    monkeypatch.setattr(Library, "bar", lambda self, setting: bar)
    findings = judge(World(noise=0.005), upto=0)
    assert findings.barred(SETTING) is not counted
    assert any(due(findings, (), lambda task: 8)) is counted and (sum(open_cells(findings).values()) > 0) is counted
    for name in findings.compared(SETTING):
        found = findings.verdict(SETTING, name)
        assert (found.reason == "below the bar") is not counted and found.decided is not counted and found.n == 0


def test_a_baseline_that_always_diverges_is_below_any_bar(monkeypatch):
    monkeypatch.setattr(Library, "bar", lambda self, setting: 0.5)
    assert judge(World(diverges={"QKV": 1.0}), upto=0).barred(SETTING)


def test_designs_that_join_a_task_are_compared_there(monkeypatch):
    study = spec(designs=("QKV", "XXV"), also={"library": ("QXV", "XXV")})
    findings = judge(World(means={"QXV": 0.5}, noise=0.005), study, upto=30)
    assert findings.compared(SETTING) == ["XXV", "QXV", "uniform"] == [n for _, n, _ in findings.comparisons()]
    assert findings.verdict(SETTING, "QXV").verdict == "worse"


def test_diverged_runs_count_against_their_design():
    findings = judge(World(diverges={"QQV": 0.5}, noise=0.005))
    verdict = findings.verdict(SETTING, "QQV")
    assert verdict.verdict == "worse" and verdict.diverged > 0


# The document


@pytest.fixture(scope="module")
def told() -> dict:
    return document(judge(World(means={"XXV": 0.5}, diverges={"QQV": 0.1}, noise=0.02), upto=30))


def test_the_document_has_the_fields_of_the_issue(told):
    assert list(told) == ["comparisons", "claims", "origin"] and len(told["claims"]) == 11
    assert [row["design"] for row in told["comparisons"]] == ["QQV", "XXV", "uniform"]
    for row in told["comparisons"]:
        assert set(FIELDS) <= set(row)
        assert (row["task"], row["setting"], row["baseline"], row["metric"]) == (*SETTING, "QKV", "error")
        assert row["delta"] == 0.05 and row["alpha"] == pytest.approx(0.05 / 3)
        assert -0.2 <= row["low"] <= row["high"] <= 0.2 and row["n"] <= 30
        assert row["tuned_lr"] in (0.001, 0.003, 0.01)
        assert all(isinstance(row[k], int) and row[k] > 0 for k in ("params", "flops_per_token", "cache_per_token"))
    assert told["origin"]["recipe"] == "t" and told["origin"]["cells"] > 0


def test_the_document_is_strict_json(told):
    text = json.dumps(told, allow_nan=False)
    assert json.loads(text) == told


def test_a_study_that_has_not_begun_is_a_document_too():
    empty = document(Findings(register(spec())))
    json.dumps(empty, allow_nan=False)
    for row in empty["comparisons"]:
        assert row["verdict"] == "undecided" and row["n"] == 0
        assert row["estimate"] is None and row["tuned_lr"] is None and row["unclipped_mean"] is None
        assert (row["low"], row["high"]) == (-0.2, 0.2)


def test_everything_diverged_is_a_document_too():
    found = document(judge(World(diverges=dict.fromkeys(("QKV", "QQV", "XXV", "uniform"), 1.0))))
    json.dumps(found, allow_nan=False)
    assert {row["verdict"] for row in found["comparisons"]} == {"nothing to compare"}


def test_equal_results_give_equal_documents(told):
    again = document(judge(World(means={"XXV": 0.5}, diverges={"QQV": 0.1}, noise=0.02), upto=30))
    assert again == told


@given(st.floats(0, 1), st.floats(0, 0.3), st.sampled_from([0.0, 0.2, 1.0]))
@example(0.875, 0.0, 0.0)
@example(0.15, 0.0, 0.0)
def test_any_world_is_strict_json(mean, noise, diverges):
    found = document(judge(World(means={"QQV": mean}, noise=noise, diverges={"XXV": diverges}), upto=12))
    json.dumps(found, allow_nan=False)
