"""Rates stop in tuning only: judging has one budget, what stopped is not chosen, older studies stay as they are."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections import defaultdict
from pathlib import Path

import pytest
from made_up import SETTING, FakeWorkers, World, judge, layout, play, recorded, result, rows, spec

from qkvlab.study import run as runs
from qkvlab.study.cells import Cell, Result
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import HALVING, register
from qkvlab.study.run import run
from qkvlab.study.schedule import due
from qkvlab.study.store import Store
from qkvlab.study.verdicts import document
from qkvlab.training.halving import STOPPED, Contest

RATES = (0.0001, 0.001, 0.003, 0.01)
WORLD = World(means={"XXV": 0.5}, noise=0.01)
RESULTS = Path(__file__).parent.parent.parent / "results"


@pytest.fixture
def workers(monkeypatch):
    """Give the runner made-up workers with groups of four; returns those of the latest run."""
    made: list[FakeWorkers] = []

    def find(order, facts, tell, idle, **much):
        made.append(FakeWorkers(WORLD))
        return layout(4), made[-1]

    monkeypatch.setattr(runs.layouts, "find", find)
    return made


def budgets_are_equal(findings: Findings) -> None:
    """The contract of a budget: judged trainings of a setting all took the registered steps, none was stopped."""
    for cell, one in findings.results.items():
        registered = findings.settings[cell.task, cell.setting]["steps"]
        assert one.steps == registered and not one.stopped if cell.role == "judge" else one.steps <= registered
        assert one.stopped == (one.steps < registered) == (set(one.metrics) == {STOPPED})
    for row in document(findings)["origin"]["trained"]:
        steps = findings.settings[row["task"], row["setting"]]["steps"]
        assert row["steps_of_judged"] in ([steps], [])


def test_only_tuning_stops_anything(tmp_path, workers):
    findings = run(spec(rates=RATES), tmp_path)
    budgets_are_equal(findings)
    assert any(one.stopped for one in findings.results.values())
    (made,) = workers
    for order in made.orders:
        tunes = {seed for seed, _ in order.runs} <= set(findings.registration["seeds"]["tune"])
        assert (order.contest is not None) == tunes
        assert order.at_once <= 4
        if tunes:  # all rates of a design in one order, though groups are smaller
            assert {rate for _, rate in order.runs} == set(RATES) and len(order.runs) == len(RATES) * 2
    origin = document(findings)["origin"]["trained"]
    assert sum(row["stopped"] for row in origin) == sum(one.stopped for one in findings.results.values())
    assert all(row["steps_of_tuning"] < 200 * row["tuned"] for row in origin if row["stopped"])
    with Store.read(tmp_path) as store:
        assert store.aside() == [] and len(store.results()) == len(findings.results)


def test_a_study_with_the_rule_says_what_one_without_it_says(tmp_path, workers):
    """Where what ends well has been ahead all the time."""
    with_rule = run(spec(rates=RATES), tmp_path / "with")
    without = run(spec(rates=RATES, halving=False), tmp_path / "without")
    assert rows(with_rule) == rows(without)
    assert not any(one.stopped for one in without.results.values())
    assert all(order.contest is None and len(order.runs) <= 4 for order in workers[-1].orders)


def test_what_stopped_is_never_chosen():
    """Not even where the record of a stopped training claims the best number of all."""
    findings = Findings(register(spec(rates=RATES)))
    for cell in findings.tuning(SETTING).missing:
        one = result(cell, World(noise=0))
        if cell.lr == 0.001:
            one = dataclasses.replace(one, metrics={"error": 0.0, STOPPED: 2.0}, steps=60)
        findings.add([one])
    assert set(findings.tuning(SETTING).chosen.values()) == {0.003}


def test_an_edge_that_was_added_is_held_against_those_before():
    findings, world = Findings(register(spec(rates=RATES))), World(best={"XXV": 0.0333333}, noise=0)
    seen = []
    for group in play(findings, world, size=4):
        if group.cells[0].role == "tune":
            seen.append({cell.lr for cell in group.cells})
    assert {0.0333333} in seen
    group = [c for c in findings.results if c.role == "tune" and c.design == "QKV" and c.lr == 0.0333333]
    contest = findings.contest(group)
    assert contest is not None and contest.halving == HALVING
    assert {(seed, rate) for seed, rate, _ in contest.rivals} >= {(seed, rate) for seed in (0, 1) for rate in RATES}
    for seed, rate, losses in contest.rivals:
        assert findings.results[Cell(*SETTING, "QKV", "tune", seed, rate)].losses == losses


def test_one_rate_is_no_contest():
    findings = Findings(register(spec(rates=(0.003,))))
    group = next(due(findings, (), lambda task: 8))
    assert findings.contest(group.cells) is None and not findings.tuning(SETTING).contested


# What was registered before there was a rule


def published(folder: Path) -> list[Result]:
    """Return the trainings of a published study, from its table."""
    metrics: defaultdict[Cell, dict[str, float]] = defaultdict(dict)
    facts = {}
    with (folder / "results.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            cell = Cell(row["task"], row["setting"], row["design"], row["role"], int(row["seed"]), float(row["lr"]))
            metrics[cell][row["metric"]] = float(row["value"]) if row["value"] else math.nan
            facts[cell] = row["diverged"] == "true", int(row["steps"]), float(row["seconds"])
    return [
        Result(cell, metrics[cell], diverged, (), steps, seconds, 1, "cpu")
        for cell, (diverged, steps, seconds) in facts.items()
    ]


def test_a_published_study_means_what_it_meant():
    folder = RESULTS / "2026-11-26-shakespeare"
    registration = json.loads((folder / "registration.json").read_text("utf-8"))
    assert "halving" not in registration["tuning"] and "steps" not in registration["tasks"][0]
    findings = Findings(registration, published(folder))
    told = json.loads((folder / "verdicts.json").read_text("utf-8"))
    again = document(findings)
    assert len(again["comparisons"]) == len(told["comparisons"]) and again["claims"] == told["claims"]
    for now, then in zip(again["comparisons"], told["comparisons"], strict=True):
        assert {name: now[name] for name in then} == then
    assert again["origin"]["registration"] == told["origin"]["registration"]
    assert again["origin"]["trained"] == told["origin"]["trained"]


def test_an_older_study_tunes_as_it_did():
    plan = register(spec(rates=RATES, halving=False))
    assert "halving" not in plan["tuning"]
    groups = list(due(Findings(plan), (), lambda task: 4))
    assert all(len(group.cells) == 4 == group.at_once for group in groups)


# Planted bugs


def test_planted_judging_that_stops_is_caught(tmp_path, workers, monkeypatch):
    """Both by the contract and by the store, which never takes such a result in, so that the study does not end."""
    monkeypatch.setattr(Findings, "contest", lambda self, group: Contest(HALVING))
    trained = World.trained

    def all_stop(self, design, setting, runs, contest=None):
        found = trained(self, design, setting, runs, contest)
        return [
            dataclasses.replace(one, metrics={STOPPED: 1.0}, steps=60) if runs[i][0] >= 1000 else one
            for i, one in enumerate(found)
        ]

    monkeypatch.setattr(World, "trained", all_stop)
    findings = judge(WORLD, upto=0)
    seed = findings.registration["seeds"]["judge"][0]
    cell = Cell(*SETTING, "QKV", "judge", seed, findings.tuning(SETTING).chosen["QKV"])
    (one,) = WORLD.trained("QKV", SETTING[1], [(seed, cell.lr)])
    stopped = recorded(cell, one, findings.registration["source"])
    with Store.create_or_continue(tmp_path, findings.registration) as store:
        store.add([stopped])
        assert store.results() == [] and [reason for _, reason in store.aside()] == ["unequal budget"]
    findings.add([stopped])
    with pytest.raises(AssertionError):
        budgets_are_equal(findings)


def test_planted_a_stopped_cell_that_is_chosen(monkeypatch):
    monkeypatch.setattr(Result, "stopped", property(lambda self: False))
    with pytest.raises(AssertionError):
        test_what_stopped_is_never_chosen()


def test_planted_groups_that_part_the_rates(tmp_path, workers, monkeypatch):
    fresh = runs.due.__globals__["_fresh"]
    monkeypatch.setitem(runs.due.__globals__, "_fresh", lambda *of, whole=False: fresh(*of))
    with pytest.raises(AssertionError):
        test_only_tuning_stops_anything(tmp_path, workers)
